"""The attack ``file``: contents from a JSON file, by couple and vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from pytest_siren.attacks.dictionary import DictAttack
from pytest_siren.attacks.planted import CoupleAttacks
from pytest_siren.evaluation.components import Component
from pytest_siren.evaluation.models import ModelSource
from pytest_siren.evaluators import json_schema as strict_json
from pytest_siren.yamlpos.problems import shown
from pytest_siren.yamlpos.reader import read_bytes


class AttackFileError(ValueError):
    """An attack file cannot be used; each line of the message begins with its name."""


class FileConfig(BaseModel):
    """Configuration of the attack ``file``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    file_path: str = Field(min_length=1, description="JSON file; relative to the eval file")


class Metadata(BaseModel):
    """The origin of the contents; keys other than the name are ignored."""

    name: str | None = None


class AttackFile(BaseModel):
    """The content of the file; a bare mapping of couples is read as ``attacks``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    metadata: Metadata = Field(default_factory=Metadata)
    attacks: CoupleAttacks = Field(min_length=1)


class FileAttack(DictAttack):
    """Plants the file's contents for the couple."""

    def __init__(self, path: Path, file: AttackFile) -> None:
        super().__init__("file", file.attacks)
        self.sources = (path,)
        self._recorded_as = file.metadata.name

    def recording(self, model: ModelSource) -> str | None:
        """Return the name of the attack that made the file, if the file contains it."""
        return self._recorded_as


def read_attack_file(name: str, base: Path) -> AttackFile:
    """Return the content of the file ``name``, relative to ``base``. Raises ``AttackFileError``."""
    try:
        text = read_bytes(base / name).decode("utf-8-sig")
        data = strict_json.loads(text)
    except OSError as error:
        raise AttackFileError(f"attack file {name}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise AttackFileError(f"attack file {name}: is not UTF-8: {error.reason}") from None
    except ValueError as error:
        raise AttackFileError(f"attack file {name}: not valid JSON: {error}") from None
    try:
        return AttackFile.model_validate(_with_head(data))
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        lines = (
            ": ".join(filter(None, (f"attack file {name}", _dotted(each["loc"]), _message(each))))
            for each in details
        )
        raise AttackFileError("\n".join(lines)) from None


def _message(error: ErrorDetails) -> str:
    is_type = error["type"].endswith("_type")
    return f"{error['msg']}, not {shown(error['input'])}" if is_type else error["msg"]


def _dotted(loc: tuple[int | str, ...]) -> str:
    return ".".join(map(str, loc))


def _with_head(data: Any) -> Any:
    # The id of a couple contains a colon, so no couple is called attacks.
    return data if not isinstance(data, dict) or "attacks" in data else {"attacks": data}


def _build(config: FileConfig, base: Path) -> FileAttack:
    path = base / config.file_path
    return FileAttack(path, read_attack_file(config.file_path, base))


component = Component(FileConfig, _build)

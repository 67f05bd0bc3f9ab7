"""What models have in common that no provider is behind."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from pydantic_ai.models import Model
from pydantic_ai.profiles import DEFAULT_PROFILE, ModelProfile

_PROFILE: ModelProfile = {**DEFAULT_PROFILE, "supported_native_tools": frozenset()}


class OfflineModel(Model):
    """A model of ours; each run has one of its own."""

    KIND: ClassVar[str]
    """Stands where others name their provider."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    @property
    def model_name(self) -> str:
        """The name that the run's record has."""
        return self._name

    @property
    def system(self) -> str:
        """Not a provider: ``control``, ``replay``."""
        return self.KIND

    @cached_property
    def profile(self) -> ModelProfile:
        """What pydantic-ai would find after a search that it does anew for every object."""
        return _PROFILE

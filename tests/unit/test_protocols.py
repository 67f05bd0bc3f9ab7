"""What implements an optional protocol."""

from __future__ import annotations

import pytest

from pytest_siren.environments.inline import InlineEnvironment
from pytest_siren.evaluation.components import (
    HasSources,
    SupportsClose,
    SupportsRun,
    SupportsWarmup,
    implements,
)
from pytest_siren.evaluation.models import CountsRetries, ObservesContents, ObservesState
from pytest_siren.evaluation.tasks import CopyableEnvironment, SelectiveEnvironment

PROTOCOLS = (
    HasSources,
    SupportsClose,
    SupportsRun,
    SupportsWarmup,
    CopyableEnvironment,
    SelectiveEnvironment,
    CountsRetries,
    ObservesContents,
    ObservesState,
)


class Retrying:
    retries = ()


class Observing:
    def observe(self, env_state: object) -> None: ...

    def planted(self, contents: object) -> None: ...


class Holding:
    sources = ()

    def warm(self) -> None: ...

    def open_run(self, run: object) -> object: ...

    async def aclose(self) -> None: ...


PARTS = [InlineEnvironment({}), Retrying(), Observing(), Holding()]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("part", [*PARTS, object()])
def test_a_part_implements_what_isinstance_says(part: object, protocol: type) -> None:
    assert implements(part, protocol) == isinstance(part, protocol)


def test_something_implements_each_protocol() -> None:
    assert all(any(implements(part, protocol) for part in PARTS) for protocol in PROTOCOLS)

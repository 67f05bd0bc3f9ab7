"""An element that asks a model as often as it may: ``STATE URL PROCESSES RPM TPM``.

It goes on until it is killed, or the state says that all shall stop.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from pytest_siren.models.api import ApiModelSource
from pytest_siren.models.ratelimit.limiter import RateLimiters
from pytest_siren.sharing.files import SharedFiles
from tests.unit.limits_server import ask, bound

WINDOW = 16


async def work(state: SharedFiles, limiters: RateLimiters) -> None:
    source = ApiModelSource("openai-chat:gpt-4o-mini")
    source.use_rate_limiter(limiters)
    model = await bound(source)

    async def run() -> None:
        while state.stopped is None:
            await ask(model)

    runs = [asyncio.create_task(run()) for _ in range(WINDOW)]
    while state.stopped is None:
        await asyncio.sleep(0.02)
    for one in runs:
        one.cancel()
    await asyncio.gather(*runs, return_exceptions=True)
    await source.aclose()


def main() -> None:
    folder, url, processes, rpm, tpm = sys.argv[1:]
    os.environ["OPENAI_BASE_URL"] = url
    os.environ["OPENAI_API_KEY"] = "key"
    state = SharedFiles.open(Path(folder))
    limiters = RateLimiters(state, WINDOW, int(processes), float(rpm) or None, float(tpm) or None)
    sys.stdout.write("up\n")
    sys.stdout.flush()
    sys.stdin.readline()
    asyncio.run(work(state, limiters))
    state.close()


if __name__ == "__main__":
    main()

"""A worker that dies or freezes where the test says: `python -m tests.faults.worker`.

The product has no such hooks: its parts are built here as `worker.__main__` builds them, over
adapters between it and storage. `FAULT` names the place, such as `after:stage:2:kill`;
`KILLER` a text that kills the process when a block to be staged holds it; `FORMAT` another version
of the output's format. Each block that is staged is printed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import uvloop

from shared.batches import checkpoint
from shared.logs import configure_logging
from shared.records.artifact import load_artifact
from shared.settings import WorkerSettings, load_settings
from shared.storage.azure import open_storage
from tests.faulty import FaultyAccount, Moment
from tests.mutants import take_away
from worker.__main__ import run

SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "stop": signal.SIGTERM, "hold": None}
"""The action at this step; `hold` waits, like a call without an answer."""


class Fault:
    """Ends or freezes this process at its n-th arrival at a place."""

    def __init__(self, place: str, killer: bytes) -> None:
        when, call, count, action = place.split(":") if place else ("", "", "0", "kill")
        self._place = (when, call)
        self._left = int(count)
        self._signal = SIGNALS[action]
        self._killer = killer

    async def __call__(self, moment: Moment) -> None:
        if moment.call == "stage" and self._killer and self._killer in moment.args[3]:
            await self._strike(signal.SIGKILL)
        if (moment.when, moment.call) == ("before", "stage"):
            print("staging", moment.args[2], flush=True)
        if (moment.when, moment.call) == self._place:
            self._left -= 1
            if self._left == 0:
                await self._strike(self._signal)

    async def _strike(self, number: signal.Signals | None) -> None:
        print("struck", flush=True)
        if number is None:
            await asyncio.sleep(600)
        else:
            os.kill(os.getpid(), number)


async def main() -> int:
    begun = time.monotonic()
    take_away()
    settings = load_settings(WorkerSettings)
    configure_logging(settings.log_level)
    artifact = load_artifact(settings.model_dir)
    if "FORMAT" in os.environ:
        vars(checkpoint)["OUTPUT_FORMAT"] = int(os.environ["FORMAT"])
    fault = Fault(os.environ.get("FAULT", ""), os.environ.get("KILLER", "").encode())
    async with open_storage(settings) as storage:
        return await run(settings, artifact, FaultyAccount(storage, fault), begun)


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))

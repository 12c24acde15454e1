"""Takes the worker's safeguards away, one at a time, and sees whether a test notices.

`python -m tests.mutants` works in a copy of the tree and runs only the tests named beside each
mutant. A mutant that survives, or whose text is not found any more, fails the run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TREE = ("api", "cli", "shared", "tests", "training", "worker", "artifact", "pyproject.toml")

UNIT = ("tests/unit/test_worker_messages.py", "tests/unit/test_worker_lease.py")
VIRTUAL = ("tests/faults/test_overlap.py", "tests/faults/test_stops.py", "-m", "not azurite")
CONTRACT = ("tests/contract/test_blobs.py", "tests/contract/test_storage_errors.py")
OUTAGES = ("tests/faults/test_outages.py",)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A safeguard, the text that is it, and what stands there without it."""

    safeguard: str
    file: str
    text: str
    without: str
    tests: tuple[str, ...]


MUTANTS = [
    Mutant(
        "the commit is create-only",
        "shared/storage/azure.py",
        "                match_condition=MatchConditions.IfMissing,\n",
        "",
        CONTRACT,
    ),
    Mutant(
        "the summary is create-only",
        "shared/storage/azure.py",
        "                overwrite=False,\n",
        "                overwrite=True,\n",
        CONTRACT,
    ),
    Mutant(
        "only storage's own answer counts",
        "shared/storage/azure.py",
        "        if not genuine:\n",
        "        if False:\n",
        CONTRACT,
    ),
    Mutant(
        "the commit comes before the summary",
        "worker/processor.py",
        "            committed = await writer.commit(",
        "            early = read_commit(metadata)\n"
        "            assert early\n"
        '            await self._outcomes.conclude(delivery, target, name, "", early)\n'
        "            committed = await writer.commit(",
        VIRTUAL,
    ),
    Mutant(
        "the summary comes before the delete",
        "worker/consumer.py",
        "        settlement = await self._work(delivery)\n",
        "        await self._queue.delete(delivery.lease.message)\n"
        "        settlement = await self._work(delivery)\n",
        VIRTUAL,
    ),
    Mutant(
        "the poison copy comes before the delete",
        "worker/outcomes.py",
        "            await self._send_poison(delivery, target, failure.reason)\n"
        "        return failure\n",
        "            import asyncio\n\n"
        "            late = asyncio.get_running_loop().create_task\n"
        "            asyncio.get_running_loop().call_later(\n"
        "                1, lambda: late(self._send_poison(delivery, target, failure.reason))\n"
        "            )\n"
        "        return failure\n",
        VIRTUAL,
    ),
    Mutant(
        "a standing failure sends its poison copy again",
        "worker/outcomes.py",
        '            await self._send_poison(delivery, target, str(summary["reason"]))\n',
        "            pass\n",
        VIRTUAL,
    ),
    Mutant(
        "a renewal is not tried again by the SDK",
        "shared/storage/azure.py",
        "                    retry_total=0,\n",
        "",
        CONTRACT,
    ),
    Mutant(
        "the plan stands in the block names",
        "shared/batches/checkpoint.py",
        '    return _to_text(int.from_bytes(digest[:8], "big") >> 4, 10)\n',
        '    return "0" * len(_to_text(int.from_bytes(digest[:8], "big") >> 4, 10))\n',
        ("tests/faults/test_overlap.py", "-k", "upgrade"),
    ),
    Mutant(
        "a failure looks for another outcome first",
        "worker/outcomes.py",
        "        if await self.adopt(delivery, target):\n"
        "            return Delete()\n        reason",
        "        reason",
        OUTAGES + VIRTUAL,
    ),
    Mutant(
        "a failed renewal is tried again",
        "worker/lease.py",
        "            return min(self._every, RETRY) if self._clock() < self._ends else None\n",
        "            return None\n",
        UNIT,
    ),
    Mutant(
        "a lost lease starts nothing more",
        "worker/lease.py",
        "        if self.lost or (self._clock() >= self._ends and self.life > 0):\n",
        "        if False:\n",
        UNIT,
    ),
    Mutant(
        "a clean stop is excused",
        "worker/markers.py",
        "marker.excuse().name",
        "marker.name",
        VIRTUAL,
    ),
    Mutant(
        "deliveries that end without a word are counted",
        "worker/processor.py",
        "        if progress.unexplained >= GIVE_UP_AFTER:\n",
        "        if False:\n",
        UNIT,
    ),
    Mutant(
        "what stands is compared with what was sent",
        "worker/outcomes.py",
        '        if not same_identity(existing["identity"], identity):\n',
        "        if False:\n",
        VIRTUAL,
    ),
]


def survives(mutant: Mutant, directory: Path) -> bool:
    """Whether the tests pass without the safeguard. Raises `LookupError`: its text is gone."""
    path = directory / mutant.file
    whole = path.read_text()
    if whole.count(mutant.text) != 1:
        raise LookupError(f"{mutant.file} does not hold once: {mutant.text.strip()}")
    path.write_text(whole.replace(mutant.text, mutant.without))
    try:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, *mutant.tests], cwd=directory, capture_output=True, text=True, check=False
        )
    finally:
        path.write_text(whole)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return done.returncode == 0


def main() -> int:
    wanted = sys.argv[1:]
    survivors = 0
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for part in TREE:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(
                    source, directory / part, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(source, directory / part)
        (directory / ".local").symlink_to(ROOT / ".local")
        for mutant in MUTANTS:
            if wanted and not any(word in mutant.safeguard for word in wanted):
                continue
            begun = time.monotonic()
            survived = survives(mutant, directory)
            survivors += survived
            seconds = time.monotonic() - begun
            word = "SURVIVES" if survived else "caught  "
            print(f"{word} {seconds:5.1f} s  without: {mutant.safeguard}", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())

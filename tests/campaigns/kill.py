"""Kill commands at random moments, resume them, and compare with uninterrupted runs.

    python tests/campaigns/kill.py --kills 200

Not part of the test suite: it takes minutes. It exits with 1 if a resumed run differs, a process
keeps running, or a temporary file is left.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

RUN = [
    "--hidden=5", "--ways=3", "--shots=2", "--queries=2", "--episodes=40", "--meta-batch=2",
    "--refit=8", "--refit-batch=2", "--validation=4", "--test-episodes=4", "--engine=batched",
    "--terms=error_hebbian,oja",
]  # fmt: skip
# How each command begins and continues in a folder.
COMMANDS = {
    "discover": (
        [*RUN, "--checkpoint-seconds=0", "--quiet", "--out={}"],
        ["--checkpoint-seconds=0", "--quiet", "--resume={}"],
    ),
    "sweep": (
        [*RUN, "--l1=0,0.1", "--seeds=1", "--processes=2", "--out={}"],
        ["--processes=2", "--resume={}"],
    ),
    "recover": (
        [*RUN, "--rules=2", "--processes=2", "--out={}"],
        ["--processes=2", "--resume={}"],
    ),
    "reproduce": (["bio", "--quick", "--processes=1", "--out={}"],) * 2,
}
# The file that shows that a run has begun in a folder and can be resumed.
BEGUN = {"discover": "config.json", "sweep": "jobs.json", "recover": "jobs.json"}
# Files that a resumed run must reproduce byte for byte; other files hold times.
EXACT = ("rule.json", "history.csv", "terms.csv", "recovery.csv", "bio.csv")
# Files among the parts of `reproduce` that hold times.
TIMED = ("variant.json", "seed-0.json", "seed-1.json")
MARK = "METAPLAST_CAMPAIGN"


def start(command: str, arguments: Sequence[str], folder: Path, mark: str) -> int:
    """Start a command in its own process group; return its id. Forking saves imports."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    os.environ[MARK] = mark
    nowhere = os.open(os.devnull, os.O_RDWR)
    log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor, to in enumerate((nowhere, log, log)):
        os.dup2(to, descriptor)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    code = 1
    try:
        from metaplast import commands

        code = commands.find([command, *(each.format(folder) for each in arguments)])()
    finally:
        sys.stdout.flush()
        os._exit(code)


def members(leader: int, mark: str) -> Iterator[int]:
    """Yield the running processes of a command: those in its group or with its mark."""
    for place in Path("/proc").iterdir():
        if not place.name.isdigit() or int(place.name) == os.getpid():
            continue
        try:
            state = (place / "stat").read_text().rpartition(")")[2].split()
            marked = f"{MARK}={mark}".encode() in (place / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if state[0] != "Z" and (int(state[2]) == leader or marked):
            yield int(place.name)


def settled(leader: int, mark: str, seconds: float) -> list[int]:
    """Wait for all processes to end; return those that still run after `seconds`."""
    until = time.monotonic() + seconds
    while (left := list(members(leader, mark))) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of the files that must be the same."""
    paths = [path for path in folder.rglob("*") if path.name in EXACT or "parts" in path.parts]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in paths
        if path.is_file() and path.suffix in (".csv", ".json") and path.name not in TIMED
    }


def coefficients(folder: Path) -> dict[str, object]:
    """Return θ of every stage of every run below a folder."""
    from metaplast.base.checkpoint import load_checkpoint

    found = {}
    for path in sorted(folder.rglob("checkpoint.pt")):
        for stage, state in load_checkpoint(path)["stages"].items():
            theta = (state["u"] * state["scale"]).tolist()
            found[f"{path.parent.relative_to(folder)}/{stage}"] = (theta, state["step"])
    return found


class Campaign:
    """Kills of one command after another.

    Args:
        place: folder for everything.
        draw: random numbers.
    """

    def __init__(self, place: Path, draw: random.Random) -> None:
        self._place, self._draw = place, draw
        self.faults: list[str] = []
        self.kills, self.runs = Counter[str](), Counter[str]()
        self._whole: dict[str, Path] = {}
        self._times: dict[str, float] = {}

    def whole(self, command: str) -> Path:
        """Return the folder of an uninterrupted run, which is made once."""
        if command not in self._whole:
            folder, began = self._place / f"{command}-whole", time.monotonic()
            if self._attempt(command, folder, None) != 0:
                raise SystemExit(f"{command} fails: {folder.with_suffix('.log').read_text()}")
            self._whole[command], self._times[command] = folder, time.monotonic() - began
        return self._whole[command]

    def run(self, command: str, most: int) -> None:
        """Kill a run at most `most` times, let it finish, and compare."""
        self.whole(command)
        folder = self._place / f"{command}-{self.runs[command]}"
        for _ in range(most):
            # Finished work is kept, so short delays reach every part of a run in the end.
            delay = self._draw.uniform(0, 0.5 * self._times[command])
            code = self._attempt(command, folder, delay)
            if code is not None:
                break
            self.kills[command] += 1
        else:
            code = self._attempt(command, folder, None)
        self._judge(command, folder, code)
        self.runs[command] += 1

    def _attempt(self, command: str, folder: Path, delay: float | None) -> int | None:
        """Run a command in its folder; return its exit code, or None if it was killed."""
        begin, proceed = COMMANDS[command]
        begun = (folder / BEGUN.get(command, "")).exists()
        mark = f"{os.getpid()}-{self._draw.getrandbits(64)}"
        child = start(command, proceed if begun else begin, folder, mark)
        until = None if delay is None else time.monotonic() + delay
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                break
            if until is not None and time.monotonic() >= until:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                code = None
                break
            time.sleep(0.01)
        left = settled(child, mark, 10.0)
        if left:
            self.faults.append(f"{command}: processes {left} still run in {folder}")
            for each in left:
                os.kill(each, signal.SIGKILL)
        return code

    def _judge(self, command: str, folder: Path, code: int | None) -> None:
        whole = self.whole(command)
        if code != 0:
            log = folder.with_suffix(".log").read_text()[-300:]
            self.faults.append(f"{command}: exit code {code} in {folder}: {log}")
            return
        for what, look in (("files", contents), ("θ", coefficients)):
            if look(folder) != look(whole):
                self.faults.append(f"{command}: different {what} in {folder}")
                return
        stray = [path for path in folder.rglob(".*") if path.is_file()]
        if stray:
            self.faults.append(f"{command}: {stray} are left")
            return
        shutil.rmtree(folder)


def main() -> int:
    """Run the campaign; return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--each", type=int, default=5, help="most kills of one run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after these")
    parser.add_argument("--commands", default=",".join(COMMANDS))
    options = parser.parse_args()
    # Import before the first fork, so that every command starts with everything loaded.
    for name in options.commands.split(","):
        __import__(f"metaplast.commands.{name}")
    place = Path(tempfile.mkdtemp(prefix="metaplast-kills-"))
    campaign = Campaign(place, random.Random(options.seed))
    until = time.monotonic() + options.seconds
    names = options.commands.split(",")
    turn = 0
    while campaign.kills.total() < options.kills and time.monotonic() < until:
        campaign.run(names[turn % len(names)], options.each)
        turn += 1
        print(f"kills {dict(campaign.kills)}, runs {dict(campaign.runs)}", flush=True)
    for fault in campaign.faults:
        print(f"FAULT {fault}")
    print(f"{campaign.kills.total()} kills, {len(campaign.faults)} faults")
    if not campaign.faults:
        shutil.rmtree(place)
    return int(bool(campaign.faults))


if __name__ == "__main__":
    sys.exit(main())

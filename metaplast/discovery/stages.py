"""Stages of a run: outer loops that run one after another, saved in a checkpoint on disk."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from metaplast.base.checkpoint import load_checkpoint, save_checkpoint
from metaplast.base.errors import UserError, require
from metaplast.base.plain_data import DataError
from metaplast.discovery.run_config import require_identity, warn_of_earlier
from metaplast.meta.loop_state import read_seconds, read_stages
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.record import Record

CHECKPOINT = "checkpoint.pt"


def require_interval(name: str, seconds: float) -> None:
    """Raise `UserError` unless a time between checkpoints is finite and at least 0."""
    require(
        math.isfinite(seconds) and seconds >= 0,
        f"{name} must be a finite number of seconds, 0 or more, got {seconds}.",
    )


class Stages:
    """Runs outer loops, each a named stage, and saves all of them in one checkpoint.

    Args:
        folder: where the checkpoint is kept; None for no checkpoint.
        interval: longest time between checkpoints, in seconds.
        observe: receives the record of every outer step.
        identity: returns the configuration as plain data, which goes into the checkpoint.

    Attributes:
        loops: the stages that this process started or resumed, by name, in order.
    """

    def __init__(
        self,
        folder: Path | None,
        interval: float,
        observe: Callable[[OuterLoop, Record], None],
        identity: Callable[[], Mapping[str, Any] | None] = lambda: None,
    ) -> None:
        require_interval("checkpoint_seconds", interval)
        self.loops: dict[str, OuterLoop] = {}
        self._folder, self._interval, self._show = folder, interval, observe
        self._identity = identity
        self._told = False
        self._earlier: dict[str, dict[str, Any]] = {}
        self._elapsed = 0.0
        self._saved_at = self._began_at = time.monotonic()

    def load(self) -> None:
        """Load the checkpoint, if there is one, so that `run` resumes from it.

        Raises:
            UserError: if the checkpoint is damaged, or belongs to another run.
        """
        if self._folder is None or not (self._folder / CHECKPOINT).exists():
            return
        data = load_checkpoint(self._folder / CHECKPOINT)
        try:
            self._earlier, self._elapsed = read_stages(data), read_seconds(data)
        except DataError as error:
            raise UserError(
                f"the checkpoint in {self._folder} is damaged ({error}); start the run again."
            ) from None
        identity, begun = self._identity(), data.get("asked")
        if identity is not None:
            require_identity(begun, identity, self._folder)
            if begun is None and not self._told:
                self._told = True
                warn_of_earlier(self._folder)

    @property
    def done(self) -> dict[str, int]:
        """Number of tasks done in each stage by earlier parts of the run."""
        return {
            name: int(state["history"][-1]["episodes"]) if state["history"] else 0
            for name, state in self._earlier.items()
        }

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, without interruptions."""
        return self._elapsed + time.monotonic() - self._began_at

    def history(self) -> Iterator[Record]:
        """Yield the records of all stages in order."""
        for loop in self.loops.values():
            yield from loop.progress.history

    def divergences(self) -> Iterator[str]:
        """Yield the reports of diverged tasks of all stages, in order."""
        for loop in self.loops.values():
            yield from loop.progress.divergences

    def scale(self, name: str) -> Tensor | None:
        """Return the scale of θ of a stage from the checkpoint; None if the stage is not in it."""
        return self._earlier[name]["scale"] if name in self._earlier else None

    def run(
        self,
        name: str,
        make: Callable[[], OuterLoop],
        give_up: Callable[[OuterLoop], bool] | None = None,
        asked: int | None = None,
    ) -> OuterLoop:
        """Run the loop of a stage to its end, from its checkpoint if there is one, and return it.

        Args:
            name: the name of the stage.
            make: makes the loop.
            give_up: called before each step; if it returns True, the stage ends there. It is called
                again for a resumed loop that was given up, so its result must depend only on the
                loop.
            asked: the only step before which `give_up` is called; None for every step.

        Raises:
            UserError: if the checkpoint does not fit the loop.
        """
        loop = self._restored(name, make) if name in self._earlier else make()
        self.loops[name] = loop
        try:
            loop.run(self._observe, give_up, asked)
        finally:
            # This also runs after an interrupt, so that no computed step is lost.
            self._save()
        return loop

    def _restored(self, name: str, make: Callable[[], OuterLoop]) -> OuterLoop:
        try:
            loop = make()
            loop.restore(self._earlier[name])
        except DataError as error:
            raise UserError(
                f"the checkpoint in {self._folder} does not fit its run ({error}); start the run "
                f"again."
            ) from None
        return loop

    def _observe(self, loop: OuterLoop, record: Record) -> None:
        self._show(loop, record)
        if time.monotonic() - self._saved_at >= self._interval:
            self._save()

    def _save(self) -> None:
        """Write the checkpoint, if there is a folder for it."""
        self._saved_at = time.monotonic()
        if self._folder is None:
            return
        stages = self._earlier | {name: loop.state() for name, loop in self.loops.items()}
        data = {"stages": stages, "seconds": self.seconds, "asked": self._identity()}
        save_checkpoint(self._folder / CHECKPOINT, data)

"""A simulation of several lanes: training, test, records, and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.checkpoint import load_checkpoint, save_checkpoint
from metaplast.base.errors import UserError, require
from metaplast.base.paths import AnyPath, as_path
from metaplast.base.plain_data import DataError
from metaplast.reservoirs.kept import read_kept
from metaplast.reservoirs.lanes import Lane, coefficients, most_outputs, start
from metaplast.reservoirs.mastery import InverseCorrelation
from metaplast.reservoirs.network import Dynamics, Network, Noise, Schedule, draw
from metaplast.reservoirs.plain_loop import SHARPNESS
from metaplast.reservoirs.run import Run

# Points of the drawn curve, and records of distance and norms, in each period.
POINTS, RECORDS = 500, 20
CHECKPOINT = "reservoir.pt"


class Simulation:
    """All lanes of one seed, with the same J, Q, x_0 and noise.

    Args:
        lanes: tasks and algorithms.
        target: one period, [step, 2].
        dynamics: sizes and constants of the reservoir; published by default.
        schedule: steps of learning and of the test; published by default.
        seed: the seed of all random numbers.
        network: J, Q and x_0 instead of those of the seed.

    Raises:
        UserError: if the target has another period, or is out of an arm's reach.
    """

    def __init__(
        self, lanes: Sequence[Lane], target: Numbers, dynamics: Dynamics | None = None,
        schedule: Schedule | None = None, seed: int = 0, network: Network | None = None,
    ) -> None:  # fmt: skip
        from metaplast.reservoirs.kernel import compiled_steps
        from metaplast.reservoirs.lane_vectors import WIDTH

        dynamics, schedule = dynamics or Dynamics(), schedule or Schedule()
        require(bool(lanes), "a simulation needs at least one lane.")
        require(
            target.shape == (schedule.period, 2),
            f"the target must have {schedule.period} points, one for each step of a period, "
            f"not {len(target)}.",
        )
        for lane in lanes:
            lane.task.require_reach(target)
        self.lanes, self.target, self.schedule = tuple(lanes), target, schedule
        self.dynamics, self.seed = dynamics, seed
        self.outputs = most_outputs(lanes)
        self.network = network or draw(dynamics, self.outputs, seed)
        groups = -(-len(lanes) // WIDTH)
        self._width, self._steps = groups * WIDTH, compiled_steps(groups)
        self._coefficients = coefficients(lanes, self._width)
        self.state = start(lanes, self.network, schedule, self._width)
        self.inverses = {
            i: InverseCorrelation(dynamics.neurons)
            for i, lane in enumerate(lanes)
            if lane.algorithm.masters
        }
        self._block = _block(schedule)
        self._noise = Noise(dynamics, self.outputs, seed, self._block)
        self.step = 0
        places, blocks = self._places()
        self._positions = np.full((blocks, 2, self._width), np.nan)
        self._records = np.full((places, 3, self._width), np.nan)
        self._opened = np.zeros(self._width)

    def _places(self) -> tuple[int, int]:
        blocks = self.schedule.steps // self._block
        return blocks // self._every, blocks

    @property
    def _every(self) -> int:
        """Blocks between records."""
        of_period = self.schedule.period // self._block
        return next(n for n in range(max(1, of_period // RECORDS), 0, -1) if of_period % n == 0)

    def run(
        self,
        *,
        observe: Callable[[int, int], None] = lambda *_: None,
        folder: AnyPath | None = None,
    ) -> list[Run]:
        """Simulate all remaining steps, and return the results of each lane.

        Args:
            observe: called with the number of steps that are done, and the number of all steps.
            folder: where a checkpoint is written after each period, to continue from.

        Raises:
            UserError: if the checkpoint in the folder is damaged, or belongs to another simulation.
        """
        place = None if folder is None else as_path(folder, "folder") / CHECKPOINT
        if place is not None and place.exists():
            self.load(place)
        while self.step < self.schedule.steps:
            # If a lane diverges, its `Run` says so, and all lanes continue.
            with np.errstate(all="ignore"):
                self._advance()
            observe(self.step, self.schedule.steps)
            if place is not None and self.step % self.schedule.period == 0:
                self.save(place)
        with np.errstate(all="ignore"):
            return [self._run(i) for i in range(len(self.lanes))]

    def _advance(self) -> None:
        """Run the steps of one block, and keep records."""
        learning = self.step < self.schedule.learning
        shape = (self._block, self.dynamics.neurons), (self._block, self.outputs)
        noise = self._noise.draw() if learning else tuple(np.zeros(each) for each in shape)
        every = self.schedule.mastery_every
        n, s = self.network, self.state
        for first in range(0, self._block, every):
            part = slice(first, first + every)
            self._steps(
                self._coefficients, s, n.rows, n.columns, n.values, n.feedback,
                self.dynamics.leak, self.target, noise[0][part], noise[1][part],
                self.step + first, learning,
            )  # fmt: skip
            s.change[:] = 0
            if learning:
                for lane in self.inverses:
                    self._master(
                        lane, self.target[(self.step + first + every - 1) % len(self.target)]
                    )
        block = self.step // self._block
        self.step += self._block
        self._positions[block] = s.position.reshape(2, -1)
        if (block + 1) % self._every == 0:
            self._records[block // self._every] = self._measured()

    def _master(self, lane: int, wanted: Numbers) -> None:
        """Update P of a lane, and prepare ΔW_1 for the next step."""
        s, how = self.state, self.lanes[lane].algorithm
        z, z2, z2_mean = (each[lane :: self._width] for each in (s.z, s.z2, s.z2_mean))
        if how.supervised:
            gate, q = 1.0, np.zeros(self.outputs)
            q[:2] = wanted - z[:2]
        else:
            gate = 0.5 * (1 - np.tanh(SHARPNESS * (s.error_mean[lane] - how.threshold)))
            q = z2_mean if how.smooth else z2
        if not gate > 0:
            return
        self._opened[lane] += 1
        r = s.r[lane :: self._width].copy()
        k = self.inverses[lane].product(r)
        c = 1 / (1 + r @ k)
        self.inverses[lane].subtract(k, float(gate * c))
        s.k[lane :: self._width] = k
        s.change[lane :: self._width] = how.mastery_rate * gate * c * q

    def distance(self) -> Numbers:
        """Return D of every lane after the last step, [lane]."""
        return np.sqrt(self.state.filtered[: len(self.lanes)])

    def _weights(self, flat: Numbers) -> Numbers:
        """Return readouts as [lane, output, neuron]."""
        return flat.reshape(-1, self.outputs, self._width).transpose(2, 1, 0)

    def _measured(self) -> Numbers:
        """Return D, and the norms of W_2 and W_1, [3, lane]."""
        weights = (self._weights(m) for m in (self.state.exploration, self._mastery()))
        norms = [np.array([_norm(one) for one in each]) for each in weights]
        return np.array([np.sqrt(self.state.filtered), *norms])

    def _mastery(self) -> Numbers:
        """Return W_1 with the change that the next step would make."""
        s = self.state
        change = s.k.reshape(-1, 1, self._width) * s.change.reshape(1, -1, self._width)
        return s.mastery + change.ravel()

    def _run(self, lane: int) -> Run:
        which = self.lanes[lane]
        tested = self.schedule.steps - self.schedule.learning
        more = self.state.total[lane] / tested
        mean = self.state.before[lane] + more
        spread = float(np.sqrt(np.maximum(self.state.squares[lane] / tested - more**2, 0.0)))
        records = self._records[:, :, lane]
        bad = np.flatnonzero(~np.isfinite(records).all(1))
        stride = self._block * self._every
        diverged = None if not len(bad) else int((bad[0] + 1) * stride)
        updates = self.schedule.learning // self.schedule.mastery_every
        outputs = which.task.outputs
        mastery, exploration = (
            self._weights(each)[lane, :outputs].copy()
            for each in (self._mastery(), self.state.exploration)
        )
        distance, exploration_norm, mastery_norm = records.T.copy()
        return Run(
            lane=which,
            deviation=float(mean) if diverged is None else float("nan"),
            spread=spread if diverged is None else float("nan"),
            diverged_at=diverged,
            open_share=float(self._opened[lane] / updates),
            at=stride * np.arange(1.0, len(records) + 1),
            distance=distance,
            exploration_norm=exploration_norm,
            mastery_norm=mastery_norm,
            drawn_at=self._block * np.arange(1.0, len(self._positions) + 1),
            position=self._positions[:, :, lane].copy(),
            exploration=exploration,
            mastery=mastery,
        )

    def save(self, path: AnyPath) -> None:
        """Write a checkpoint, atomically."""
        import torch

        arrays = self._arrays()
        data = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
        counts = {str(lane): each.count for lane, each in self.inverses.items()}
        save_checkpoint(
            as_path(path),
            {"of": self._identity(), "step": self.step, "counts": counts, "arrays": data},
        )

    def load(self, path: AnyPath) -> None:
        """Continue from a checkpoint.

        Raises:
            UserError: if it is damaged, or belongs to another simulation.
        """
        data = load_checkpoint(as_path(path))
        # Compared as text, because a damaged file may hold anything.
        require(
            str(data.get("of")) == str(self._identity()),
            f"{path} belongs to a simulation with other settings; give another folder.",
        )
        try:
            kept = read_kept(data, self._arrays(), self.inverses, self.schedule)
        except DataError as error:
            raise UserError(
                f"{path} is a damaged checkpoint ({error}); remove it, and the run starts again."
            ) from None
        for name, array in self._arrays().items():
            array[...] = kept.arrays[name]
        for lane, count in kept.counts.items():
            self.inverses[lane].count = count
        self.step = kept.step
        self._noise = Noise(self.dynamics, self.outputs, self.seed, self._block)
        self._noise.skip(min(self.step, self.schedule.learning) // self._block)

    def _arrays(self) -> dict[str, Numbers]:
        """Return everything that changes, by name."""
        inverses = {
            f"{name} {lane}": array
            for lane, each in self.inverses.items()
            for name, array in (("P", each.lower), ("pending", each.pending))
        }
        own = {"positions": self._positions, "records": self._records, "opened": self._opened}
        return {**self.state._asdict(), **inverses, **own}

    def _identity(self) -> dict[str, Any]:
        return {
            "lanes": [repr(lane) for lane in self.lanes],
            "dynamics": repr(self.dynamics),
            "schedule": repr(self.schedule),
            "seed": self.seed,
            "target": [float(self.target.sum()), float((self.target**2).sum())],
            "network": float(self.network.values.sum()),
        }


def _norm(matrix: Numbers) -> float:
    """Return the spectral norm, NaN if an entry is not finite."""
    return float(np.linalg.norm(matrix, 2)) if np.isfinite(matrix).all() else float("nan")


def _block(schedule: Schedule) -> int:
    """Return the steps between two positions: a part of the period that ends with an update."""
    every, period = schedule.mastery_every, schedule.period
    most = max(1, period // POINTS // every)
    return next(n * every for n in range(most, 0, -1) if period % (n * every) == 0)

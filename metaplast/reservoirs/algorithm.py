"""Learning algorithms of a reservoir's readouts, and their published coefficients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

from metaplast.base.coerce import coerce, from_plain
from metaplast.base.errors import UserError, require, unknown_name
from metaplast.base.files import read_json
from metaplast.base.paths import AnyPath, as_path
from metaplast.reservoirs.tasks import Task

CostOf = Literal["exploration", "output"]


@dataclass(frozen=True)
class Algorithm:
    """How readouts learn: FORCE, RMHL, SUPERTREX, or a variant of one.

    Exploration, in every step, with e = ‖h(z) − target‖² + Σ_j cost_j |ẑ_j| and d = ē − e:

        ΔW_2 = λ φ(d) (z_2 − z̄_2) rᵀ,   φ(d) = 5|d|^¼ if d ≥ 0; else 0 (one-sided) or −5|d|^¼
        b = size · (10 ē)^power          (the noise of the next step is U(−b, b))

    Mastery, by recursive least squares, in every tenth step (`Schedule.mastery_every`):

        s = ½(1 − tanh(5·10⁵ (ē − ϑ))),   k = P r,   c = 1/(1 + rᵀk)
        P −= s c k kᵀ,   ΔW_1 = κ s c q kᵀ

    where q is z_2 or z̄_2. With supervision s = 1 and q = target − z: FORCE.

    Attributes:
        name: for tables.
        exploration_rate: λ; 0 for no exploration.
        mastery_rate: κ; 0 for no mastery.
        supervised: whether mastery learns from the target (FORCE).
        one_sided: whether W_2 stays unchanged when the error is larger than usual.
        memory: a in z̄_2 ← a z̄_2 + (1 − a) z_2.
        noise_size, noise_power: the size and power of b.
        threshold: ϑ; mastery learns while ē is below it.
        smooth: whether q is z̄_2.
        costs: the cost of moving each output; () for none.
        cost_of: the meaning of ẑ: "exploration" for z − z̄_2, as in the published scripts, or
            "output" for z − z̄ with z̄ the filter of z.
    """

    name: str
    exploration_rate: float = 5e-4
    mastery_rate: float = 0.5
    supervised: bool = False
    one_sided: bool = False
    memory: float = 0.8
    noise_size: float = 0.01
    noise_power: float = 0.2
    threshold: float = 1.5e-3
    smooth: bool = True
    costs: tuple[float, ...] = ()
    cost_of: CostOf = "exploration"

    def __post_init__(self) -> None:
        """Check the coefficients.

        Raises:
            UserError: if a value has a wrong type or is invalid.
        """
        coerce(self)
        for field in fields(self):
            value = getattr(self, field.name)
            for number in value if isinstance(value, tuple) else (value,):
                require(
                    not isinstance(number, float) or (math.isfinite(number) and number >= 0),
                    f"{field.name} must be a number of at least 0, not {number}.",
                )
        require(self.memory < 1, f"memory must be below 1, not {self.memory}.")
        require(
            self.explores or self.masters,
            "exploration_rate and mastery_rate are both 0, so nothing learns.",
        )
        require(
            not self.supervised or (self.masters and not self.explores),
            "with supervised=True, mastery_rate must be positive and exploration_rate 0.",
        )

    @property
    def explores(self) -> bool:
        """Whether there is an exploration readout."""
        return self.exploration_rate > 0

    @property
    def masters(self) -> bool:
        """Whether there is a mastery readout."""
        return self.mastery_rate > 0


def published(name: str, task: Task, costs: tuple[float, ...] = ()) -> Algorithm:
    """Return the published coefficients of FORCE, RMHL or SUPERTREX for a task.

    Args:
        name: "force", "rmhl" or "supertrex".
        task: a pen, or an arm.
        costs: the cost of moving each output, as in the third published task; () for none.

    Raises:
        UserError: if the algorithm is unknown, the task is an arm and the algorithm FORCE, or the
            number of costs is wrong.
    """
    require(
        name in {"force", "rmhl", "supertrex"},
        f"unknown algorithm {name!r}; choose force, rmhl or supertrex.",
    )
    require(
        not costs or len(costs) == task.outputs,
        f"{task.name} has {task.outputs} outputs, so it needs as many costs, not {len(costs)}.",
    )
    if name == "force":
        require(not task.is_arm, "force learns from the target output, which an arm does not have.")
        return Algorithm("FORCE", 0.0, 1.0, supervised=True)
    found = _supertrex(task, costs)
    return replace(found, name="RMHL", mastery_rate=0.0, memory=0.8) if name == "rmhl" else found


def _supertrex(task: Task, costs: tuple[float, ...]) -> Algorithm:
    if not task.is_arm:
        pen = Algorithm("SUPERTREX", one_sided=True, noise_size=0.025, noise_power=0.25)
        return replace(pen, smooth=False, costs=costs)
    if not costs:
        return Algorithm("SUPERTREX", memory=0.9)
    return Algorithm(
        "SUPERTREX", 2.5e-4, 0.9, noise_size=0.005, noise_power=0.25, threshold=1.5e-2, costs=costs
    )


def repaired(task: Task, costs: tuple[float, ...] = ()) -> Algorithm:
    """Return SUPERTREX with the replication's repair.

    For an arm, ϑ = 0.015, and λ = 5·10⁻⁴ is multiplied by 0.5/K if moving has a cost, and by 0.1/K
    if it has none and K > 2. Costs count the movement of the whole output, z − z̄.
    """
    found = published("supertrex", task, costs)
    found = replace(found, name="SUPERTREX, repaired", cost_of="output")
    if not task.is_arm:
        return found
    factor = 0.5 / task.outputs if costs else 0.1 / task.outputs if task.outputs > 2 else 1.0
    return replace(found, exploration_rate=5e-4 * factor, threshold=1.5e-2)


def by_name(task: Task, costs: tuple[float, ...] = ()) -> Mapping[str, Algorithm]:
    """Return every algorithm for a task, by the name that users write."""
    names = ("rmhl", "supertrex") if task.is_arm else ("force", "rmhl", "supertrex")
    return {n: published(n, task, costs) for n in names} | {"repaired": repaired(task, costs)}


def named(name: object, task: Task, costs: tuple[float, ...] = ()) -> Algorithm:
    """Return an algorithm by the name that users write.

    Raises:
        UserError: if there is none of that name for the task, or the costs do not fit it.
    """
    choices = by_name(task, costs)
    if not isinstance(name, str) or name not in choices:
        raise unknown_name("algorithm", str(name), choices)
    return choices[name]


def read_algorithm(path: AnyPath) -> Algorithm:
    """Return the algorithm of an earlier run, from the `run.json` that `metaplast draw` wrote.

    Raises:
        UserError: if the file is missing or damaged, or holds no algorithm.
    """
    place = as_path(path, "algorithm")
    found = read_json(place, "the run.json of a drawing")
    if not isinstance(found, Mapping) or "algorithm" not in found:
        raise UserError(
            f"{place} holds no algorithm; give the run.json that metaplast draw has written."
        )
    return Algorithm(**from_plain(Algorithm, found["algorithm"], f"the algorithm in {place}"))

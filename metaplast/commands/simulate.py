"""Simulate recordings of a layer that learns by a rule, as files for `metaplast infer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from metaplast.base.errors import UserError, require, require_choice, require_within, shown
from metaplast.base.settings import part
from metaplast.base.words import amount
from metaplast.commands._options import parse
from metaplast.recordings.files import require_format, write_recording
from metaplast.recordings.model import Layer
from metaplast.recordings.monomial import monomial
from metaplast.recordings.odours import Odours, simulate_odours
from metaplast.recordings.plain_rule import PlainRule
from metaplast.recordings.simulation import Design, simulate
from metaplast.rules.rule import Rule
from metaplast.terms.library import all_terms
from metaplast.watch.console import make_console

# What lowers the memory that this command needs.
LESS_MEMORY = "lower --inputs, --neurons, --trials or --steps"
TASKS = ("layer", "odours")


@dataclass(frozen=True)
class SimulateOptions(Design):
    """Simulate recordings of a layer that learns by a rule, as files for `metaplast infer`."""

    GROUP: ClassVar[str] = "run"

    rule: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RULE")] = ""
    """Monomials with coefficients, xy=1,y2W=-1; a rule.json; or the name of a term."""
    out: Path | None = None
    """File to write: .npz, .h5 or .csv. With several animals, one numbered file for each."""
    task: str = "layer"
    """layer: fresh inputs at every step; odours: choices between two odours with baited rewards."""
    activation: str = "sigmoid"
    """Activation f of the layer: linear, sigmoid, tanh, relu or softplus."""
    eta: float = 1.0
    """Rate that multiplies all coefficients."""
    animals: int = 1
    """Number of files, each with its own weights, inputs and noise."""
    seed: int = 0
    """Seed of all random numbers."""


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if an option, the rule or the file is invalid.
    """
    options = parse(SimulateOptions, arguments, prog="simulate", description=__doc__)
    rule = read_rule(options.rule)
    require(
        options.out is not None,
        "simulate needs a file to write; give --out FILE.npz, FILE.h5 or FILE.csv.",
    )
    assert options.out is not None
    require_format(options.out, writing=True)
    require_within("--animals", options.animals, 1, 10_000)
    require_choice("--task", options.task, TASKS)
    _require_used(options)
    console = make_console()
    for animal in range(options.animals):
        arrays = _simulated(rule, options, options.seed + animal)
        path = _path(options.out, animal, options.animals)
        write_recording(path, arrays)
        trials, steps, inputs = arrays["inputs"].shape
        size = f"{amount(trials, 'trials')} of at most {amount(steps, 'steps')}"
        console.out(f"{path}: {size}, {amount(inputs, 'inputs')}")


def _require_used(options: SimulateOptions) -> None:
    """Refuse options that would change nothing.

    Raises:
        UserError: if an option of a layer is given for --task odours, whose design is fixed, or
            noise is given for counts or choices, which are already random.
    """
    usual = SimulateOptions()
    own = ("activation", "eta", *(each.name for each in fields(Design)))
    changed = [name for name in own if getattr(options, name) != getattr(usual, name)]
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
    require(
        options.task == "layer" or not changed,
        f"--task {options.task} has a fixed design, which {flags} cannot change; leave "
        f"them out, or choose --task layer.",
    )
    require(
        options.observe == "activity" or not options.noise,
        f"--noise is added to activity only, and {options.observe} are observed; leave it out, or "
        f"choose --observe activity.",
    )


def _simulated(rule: PlainRule, options: SimulateOptions, seed: int) -> dict[str, Any]:
    if options.task == "odours":
        require(
            not rule.remembers,
            "--task odours changes the weights once in each trial, so traces and eligibilities "
            "would remember nothing; give a rule without them, or choose --task layer.",
        )
        return simulate_odours(rule, Odours(), seed=seed)
    layer = Layer(options.activation, options.eta)
    return simulate(rule, layer, part(Design, options), seed=seed).arrays


def _path(out: Path, animal: int, animals: int) -> Path:
    return out if animals == 1 else out.with_name(f"{out.stem}-{animal + 1}{out.suffix}")


def read_rule(text: str) -> PlainRule:
    """Return a rule from coefficients of monomials, a file, or the name of a term.

    Raises:
        UserError: if the text is none of these, or the rule cannot run on recordings.
    """
    require(
        bool(text.strip()),
        "simulate needs a rule; write metaplast simulate xy=1,y2W=-1 --out FILE.",
    )
    path = Path(text)
    if path.suffix == ".json" or path.is_file():
        rule = Rule.load(path)
        require(
            not rule.is_per_layer,
            f"{path} has coefficients for each layer; give a rule with shared ones.",
        )
        return PlainRule(rule.terms, rule.theta[0])
    known = all_terms().get(text.strip())
    if known is not None:
        return PlainRule((known,), (1.0,))
    terms: dict[Any, float] = {}
    for entry in text.split(","):
        name, equals, value = (part.strip() for part in entry.partition("="))
        term = monomial(name)
        require(term not in terms, f"each term may occur once, got {shown(text)}.")
        terms[term] = _coefficient(name, value) if equals else 1.0
    return PlainRule(tuple(t.to_term() for t in terms), tuple(terms.values()))


def _coefficient(name: str, value: str) -> float:
    try:
        found = float(value)
    except ValueError:
        found = float("nan")
    if not abs(found) < 1e9:
        raise UserError(f"the coefficient of {name} must be a number, got {shown(value)}.")
    return found

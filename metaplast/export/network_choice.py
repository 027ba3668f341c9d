"""Open the rule to export, and choose the network for which it is exported."""

from __future__ import annotations

from dataclasses import dataclass, fields

from metaplast.base.coerce import coerce
from metaplast.base.errors import require, shown
from metaplast.base.paths import AnyPath, as_path
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run_folder import load_rule
from metaplast.export.exporter import Network
from metaplast.rules.rule import Rule
from metaplast.systems.feedback import STACK, get_feedback
from metaplast.systems.fixed_point import FixedPoint
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.timing import Timing
from metaplast.terms.library import find_known_rule

# The published network except for its last layer; see `DiscoveryConfig.hidden`.
_INPUTS, _CLASSES = 784, 10


def open_rule(path: AnyPath) -> Rule:
    """Return the rule in the folder of a finished run, or in a rule file.

    Raises:
        UserError: if there is no rule, or it is invalid.
    """
    path = as_path(path)
    if path.is_dir():
        return load_rule(path)
    require(
        path.exists() or find_known_rule(str(path)) is None,
        f"{path} is a known rule, which has no coefficients until they are learned; run "
        f"discover --terms {path} and give its folder.",
    )
    return Rule.load(path)


@dataclass(frozen=True)
class Wanted:
    """The network that a user requested; missing values come from the rule's own network.

    Attributes:
        widths: inputs, hidden layers, outputs; empty for the rule's own.
        activation: the activation of the hidden layers; None for the rule's own.
        init: how weights are drawn; None for the rule's own.
    """

    widths: tuple[int, ...] = ()
    activation: str | None = None
    init: str | None = None

    def __post_init__(self) -> None:
        """Convert numbers and lists of any kind.

        Raises:
            UserError: if a value is of a wrong type.
        """
        coerce(self)


def network_of(rule: Rule, wanted: Wanted = Wanted()) -> Network:
    """Return the network for which a rule is exported: the one it was found in, or a default.

    Raises:
        UserError: if the rule's provenance and the request do not describe a network.
    """
    own = rule.provenance
    if rule.system_name == Recurrent.name:
        return _recurrent(rule, wanted)
    if rule.system_name == FixedPoint.name:
        return _fixed_point(rule, wanted)
    served = get_feedback(rule.feedback).systems
    require(
        STACK in served,
        f"metaplast cannot export for the system {' or '.join(served)}, and this rule's feedback, "
        f"{rule.feedback}, is for no other system; load its file in Python with Rule.load.",
    )
    default = DiscoveryConfig()
    widths = wanted.widths or _widths(own.get("widths")) or (_INPUTS, *default.hidden, _CLASSES)
    activation = wanted.activation or own.get("activation", default.activation)
    init = wanted.init or own.get("init", default.init)
    require(
        isinstance(activation, str) and isinstance(init, str),
        "the activation or init in the rule's provenance is not text; give --activation and "
        "--init.",
    )
    return FullyConnected(tuple(widths), activation, init)


def _recurrent(rule: Rule, wanted: Wanted) -> Recurrent:
    """Return the recurrent network in which a rule was found, or one with the wanted widths."""
    own = rule.provenance
    frames, show, time = (own.get(name) for name in ("frames", "show", "time"))
    activation = wanted.activation or own.get("activation")
    init = wanted.init or own.get("init")
    require(
        all(type(step) is int for step in (frames, show, time))
        and own.get("readout") in ("last", "each")
        and isinstance(activation, str)
        and isinstance(init, str),
        "the rule's provenance does not describe the recurrent network that it was found in; "
        "restore the rule.json that its run wrote.",
    )
    timing = Timing(frames, show, time, own["readout"] == "each")  # type: ignore[arg-type]
    widths = wanted.widths or _widths(own.get("widths"))
    return Recurrent(widths, timing, str(activation), str(init), rule.feedback)


def _fixed_point(rule: Rule, wanted: Wanted) -> FixedPoint:
    """Return the fixed-point network in which a rule was found, or one with the wanted widths.

    Its linear systems are solved exactly, one image at a time.
    """
    own = rule.provenance
    names = {each.name for each in fields(FixedPoint)} - {"objective_name"}
    found = {name: own[name] for name in names if name in own}
    require(
        found.keys() == names and wanted.init is None,
        "the rule's provenance does not describe the fixed-point network that it was found in; "
        "restore the rule.json that its run wrote."
        if wanted.init is None
        else "a fixed-point network draws W with its own gain; leave --init out.",
    )
    widths = wanted.widths or _widths(own["widths"])
    require(
        len(widths) == 3,
        f"a fixed-point network needs numbers of inputs, neurons and outputs, got "
        f"{shown(widths)}; give --widths 784,100,10.",
    )
    chosen = {"activation": wanted.activation or own["activation"], "solver": "dense", "batch": 1}
    return FixedPoint(**found | chosen | {"widths": widths})


def _widths(value: object) -> tuple[int, ...]:
    """Return the layer widths in a rule's provenance; an empty tuple if it has none."""
    if value is None:
        return ()
    require(
        isinstance(value, list) and all(type(width) is int for width in value),
        "the layer widths in the rule's provenance are not whole numbers; give --widths.",
    )
    return tuple(value)  # type: ignore[arg-type]

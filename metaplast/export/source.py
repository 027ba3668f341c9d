"""Where the rule to be exported comes from, and the network it is for."""

from __future__ import annotations

from dataclasses import dataclass

from metaplast.coerce import coerce
from metaplast.config import DiscoveryConfig
from metaplast.errors import require
from metaplast.library import find_known_rule
from metaplast.network import FullyConnected
from metaplast.outputs import load_rule
from metaplast.paths import AnyPath, as_path
from metaplast.rule import Rule

# The published network but for its last layer; see `DiscoveryConfig.hidden`.
_INPUTS, _CLASSES = 784, 10


def open_rule(path: AnyPath) -> Rule:
    """Return the rule of a finished run's folder, or in a rule's file.

    Raises:
        UserError: if there is none, or it is invalid.
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
    """What a user asked of the network; what was not asked for comes from the rule's own.

    Attributes:
        widths: inputs, hidden layers, classes; empty for the rule's own.
        activation: of the hidden layers; None for the rule's own.
        init: how weights are drawn; None for the rule's own.
    """

    widths: tuple[int, ...] = ()
    activation: str | None = None
    init: str | None = None

    def __post_init__(self) -> None:
        """Take numbers and lists of any kind.

        Raises:
            UserError: if a value is of a wrong type.
        """
        coerce(self)


def network_of(rule: Rule, wanted: Wanted = Wanted()) -> FullyConnected:
    """Return the network that a rule is exported for: the one it was found in, or a default.

    Raises:
        UserError: if the rule's provenance or the wishes describe no network.
    """
    own = rule.provenance
    default = DiscoveryConfig()
    widths = wanted.widths or _widths(own.get("widths")) or (_INPUTS, *default.hidden, _CLASSES)
    activation = wanted.activation or own.get("activation", default.activation)
    init = wanted.init or own.get("init", default.init)
    require(
        isinstance(activation, str) and isinstance(init, str),
        "the rule's provenance gives its activation or init not as a text; give --activation "
        "and --init.",
    )
    return FullyConnected(tuple(widths), activation, init)


def _widths(value: object) -> tuple[int, ...]:
    """Return the layer widths in a rule's provenance, none if it has none."""
    if value is None:
        return ()
    require(
        isinstance(value, list) and all(type(width) is int for width in value),
        "the rule's provenance gives its layers' widths not as whole numbers; give --widths.",
    )
    return tuple(value)  # type: ignore[arg-type]

"""Rules discovered in recurrent networks, compared with BPTT on tasks that they have never met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.heldout import HeldoutSetup, RuleVariant
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.heldout_leads import drawn, lead

_OURS = "ours, in no paper"
_DATA = {"emnist": "EMNIST bymerge", "mnist": "MNIST"}
_LABELS = {
    "discovered_recurrent": "discovered",
    "bptt_meta": "BPTT",
    "bptt_potential_oja_meta": "BPTT with O_z",
    "fa_recurrent": "FA",
}
_FULL: Mapping[str, Any] = {
    "system": "recurrent", "hidden": (100,), "activation": "tanh",
    "dataset": "delayed:emnist-bymerge",
}  # fmt: skip
_QUICK: Mapping[str, Any] = {
    "dataset": "delayed:digits,time=7", "hidden": (5,), "ways": 2, "shots": 2, "queries": 2,
    "episodes": 8, "meta_batch": 4, "refit": 4, "refit_batch": 4, "validation": 4,
    "test_episodes": 4, "look": 8,
}  # fmt: skip
_SITES = tuple(
    HeldoutSetup(name, f"delayed:{source}", shots=10)
    for name, source in (("emnist", "emnist-bymerge"), ("mnist", "mnist"))
)
_QUICK_SITES = tuple(
    HeldoutSetup(name, "delayed:digits,time=7", shots=2, queries=2, episodes=4) for name in _DATA
)


def _rule(name: str, terms: str, **changes: Any) -> RuleVariant:
    full = {**_FULL, "terms": terms, **changes}
    own = name == "discovered_recurrent"
    return RuleVariant(name, full, _SITES, _QUICK, _QUICK_SITES, takes_file=own)


recurrent_beyond = Experiment(
    name="recurrent-beyond",
    title="A rule discovered in recurrent networks compared with BPTT",
    source=_OURS,
    text="One rule is discovered from all terms that a recurrent network offers, with fixed random feedback and today's defaults (or given by `--rule`), on short-term memory: an EMNIST image for 5 of 50 time steps, 5 ways, 10 shots. "
    "The coefficients of BPTT, BPTT with O_z and feedback alignment are learned in the same way. Each rule is learned once (seed 0), on classes that are not in the test; all are tested on the same held-out episodes and initial weights, 25 for each seed, of EMNIST and MNIST.",
    variants=(
        _rule("discovered_recurrent", "all"),
        _rule("bptt_meta", "backprop"),
        _rule("bptt_potential_oja_meta", "error_hebbian,potential_oja", feedback="symmetric"),
        _rule("fa_recurrent", "feedback_alignment"),
    ),
    claims=(
        Claim("the discovered rule is above BPTT on EMNIST classes never met", _OURS, lead("discovered_recurrent", "bptt_meta"), 0, unit="points"),
        Claim("the discovered rule is above BPTT on MNIST", _OURS, lead("discovered_recurrent", "bptt_meta", "mnist"), 0, unit="points"),
        Claim("the discovered rule is above feedback alignment on EMNIST", _OURS, lead("discovered_recurrent", "fa_recurrent"), 0, unit="points"),
        Claim("BPTT with O_z is above BPTT on EMNIST", _OURS, lead("bptt_potential_oja_meta", "bptt_meta"), 0, unit="points"),
    ),
    draw=drawn(_LABELS, _DATA),
)  # fmt: skip

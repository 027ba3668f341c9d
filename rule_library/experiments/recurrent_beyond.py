"""Rules discovered in recurrent networks, compared with BPTT on held-out tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.heldout import HeldoutSetup, RuleVariant
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.heldout_leads import drawn, lead

_OURS = "ours, in no paper"
_DATA = {"emnist": "EMNIST, T = 15", "mnist": "MNIST, T = 15", "longer": "EMNIST, T = 25"}
_LABELS = {
    "discovered_bptt": "discovered, BPTT",
    "bptt_drive_oja_meta": "BPTT with Oσ",
    "bptt_potential_oja_meta": "BPTT with Oz",
    "bptt_meta": "BPTT",
    "discovered_recurrent": "discovered, random",
    "fa_recurrent": "FA",
}
_FULL: Mapping[str, Any] = {
    "system": "recurrent", "hidden": (100,), "activation": "tanh",
    "dataset": "delayed:emnist-bymerge,time=15", "shots": 50,
}  # fmt: skip
_QUICK: Mapping[str, Any] = {
    "dataset": "delayed:digits,time=7", "hidden": (5,), "ways": 2, "shots": 2, "queries": 2,
    "episodes": 8, "meta_batch": 4, "entry": 8, "refit": 4, "refit_batch": 4, "validation": 4,
    "test_episodes": 4, "look": 8,
}  # fmt: skip
_SETUPS = tuple(
    HeldoutSetup(name, f"delayed:{source}")
    for name, source in (
        ("emnist", "emnist-bymerge,time=15"), ("mnist", "mnist,time=15"),
        ("longer", "emnist-bymerge,time=25"),
    )
)  # fmt: skip
_QUICK_SETUPS = tuple(
    HeldoutSetup(name, "delayed:digits,time=7", shots=2, queries=2, episodes=4) for name in _DATA
)


def _rule(name: str, terms: str, **changes: Any) -> RuleVariant:
    full = {**_FULL, "terms": terms, **changes}
    own = name == "discovered_recurrent"
    return RuleVariant(name, full, _SETUPS, _QUICK, _QUICK_SETUPS, takes_file=own)


_BPTT, _FA = "bptt_meta", "fa_recurrent"
_WITH_OJA, _WITH_DRIVE = "bptt_potential_oja_meta", "bptt_drive_oja_meta"
_RANDOM, _TRUE = "discovered_recurrent", "discovered_bptt"

recurrent_beyond = Experiment(
    name="recurrent-beyond",
    title="Rules discovered in recurrent networks compared with BPTT",
    source=_OURS,
    text="Two rules grow (`--entry 160`) from all terms that a recurrent network offers: one with the errors of BPTT, one with fixed random feedback (or given by `--rule`). The task is short-term memory: an EMNIST image for 5 of 15 time steps, 5 ways, 50 shots. "
    "The coefficients of BPTT with O_z and with O_σ come from the same search, with only these two terms; the rates of BPTT and feedback alignment are learned by the same outer loop. Each rule is learned once (seed 0), on classes that are not in the test; all are tested on the same held-out episodes and initial weights, 25 for each seed: EMNIST, MNIST, and EMNIST with 25 time steps. "
    "With 50 time steps, or with 10 shots, every rule answers at chance, so nothing can be found. With 15 time steps and 50 shots, the gradient with respect to any term is noise at the fitted rate of BPTT, because the unroll is chaotic there; terms are found by trying values.",
    variants=(
        _rule(_TRUE, "all", feedback="symmetric", entry=160),
        _rule(_WITH_OJA, "error_hebbian,potential_oja", feedback="symmetric", entry=160),
        _rule(_WITH_DRIVE, "error_hebbian,drive_oja", feedback="symmetric", entry=160),
        _rule(_BPTT, "backprop"),
        _rule(_RANDOM, "all", entry=160),
        _rule(_FA, "feedback_alignment"),
    ),
    claims=(
        Claim("the rule discovered with BPTT's errors is above BPTT on held-out EMNIST classes", _OURS, lead(_TRUE, _BPTT), 0, unit="points"),
        Claim("it is above BPTT with O_z on EMNIST", _OURS, lead(_TRUE, _WITH_OJA), 0, unit="points"),
        Claim("it is above BPTT with O_σ on EMNIST", _OURS, lead(_TRUE, _WITH_DRIVE), 0, unit="points"),
        Claim("it is above BPTT with O_z on MNIST", _OURS, lead(_TRUE, _WITH_OJA, "mnist"), 0, unit="points"),
        Claim("it is above BPTT with O_z on EMNIST with a longer delay", _OURS, lead(_TRUE, _WITH_OJA, "longer"), 0, unit="points"),
        Claim("the rule discovered with random feedback is above BPTT with O_z on EMNIST", _OURS, lead(_RANDOM, _WITH_OJA), 0, unit="points"),
        Claim("the rule discovered with random feedback is above BPTT on EMNIST", _OURS, lead(_RANDOM, _BPTT), 0, unit="points"),
        Claim("the rule discovered with random feedback is above BPTT on MNIST", _OURS, lead(_RANDOM, _BPTT, "mnist"), 0, unit="points"),
        Claim("the rule discovered with random feedback is above feedback alignment on EMNIST", _OURS, lead(_RANDOM, _FA), 0, unit="points"),
        Claim("BPTT with O_z is above BPTT on EMNIST", _OURS, lead(_WITH_OJA, _BPTT), 0, unit="points"),
        Claim("BPTT with O_σ is above BPTT on EMNIST", _OURS, lead(_WITH_DRIVE, _BPTT), 0, unit="points"),
    ),
    draw=drawn(_LABELS, _DATA),
)  # fmt: skip

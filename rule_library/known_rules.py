"""Published rules by name, each a list of terms."""

from metaplast.terms.library import KnownRule

_A = "Shervani-Tabar & Rosenbaum 2023, doi:10.1038/s41467-023-37562-1"
_B = "Shervani-Tabar, Mirhoseini & Rosenbaum 2024, arXiv:2408.08408"

_FIXED_FIRST = ("fixed", "direct", "sign-symmetric", "plastic")

feedback_alignment = KnownRule(
    name="feedback_alignment",
    terms=("error_hebbian",),
    feedback=_FIXED_FIRST,
    summary="the error-Hebbian term with random feedback",
    citation="Lillicrap et al. 2016, doi:10.1038/ncomms13276",
    is_baseline=True,
    aliases=("fa",),
)

direct_feedback_alignment = KnownRule(
    name="direct_feedback_alignment",
    terms=("error_hebbian",),
    feedback=("direct",),
    summary="the error-Hebbian term with the output error sent straight to each layer",
    citation="Nøkland 2016, arXiv:1609.01596",
    is_online_baseline=True,
    aliases=("dfa",),
)

backprop = KnownRule(
    name="backprop",
    terms=("error_hebbian",),
    feedback=("symmetric", "symmetric-detached"),
    summary="the error-Hebbian term with symmetric feedback: stochastic gradient descent",
    citation="Rumelhart, Hinton & Williams 1986, doi:10.1038/323533a0",
    is_baseline=True,
    aliases=("bp",),
)

euclidean_gradient = KnownRule(
    name="euclidean_gradient",
    terms=("error_hebbian",),
    feedback=("implicit",),
    summary="the error-Hebbian term with implicit errors: gradient descent at fixed points",
    citation="released code LearningFixedPointsInRNNs, rule 1",
    is_baseline=True,
)

predictive = KnownRule(
    name="predictive",
    terms=("error_hebbian",),
    feedback=("predictive-coding",),
    summary="the error-Hebbian term with the errors and activities of predictive coding",
    citation="Rosenbaum 2022 (Torch2PC)",
    aliases=("pc",),
)

ehebb = KnownRule(
    name="ehebb",
    terms=("error_hebbian", "error_error"),
    feedback=_FIXED_FIRST,
    summary="feedback alignment with Hebbian learning of the errors",
    citation=_A,
    is_online_baseline=True,
)

oja_rule = KnownRule(
    name="oja",
    terms=("error_hebbian", "oja"),
    feedback=(*_FIXED_FIRST, "symmetric", "symmetric-detached", "truncated"),
    summary="the error-Hebbian term with Oja's rule",
    citation=f"{_A}; {_B}",
)

bio = KnownRule(
    name="bio",
    terms=("error_hebbian", "error_error", "oja"),
    feedback=_FIXED_FIRST,
    summary="the three terms of the published pool that survive selection",
    citation=_A,
)

local_plastic = KnownRule(
    name="local_plastic",
    terms=(
        "error_hebbian",
        "error_error",
        "oja",
        "decay",
        "backward_hebbian",
        "backward_decay",
    ),
    feedback=("plastic",),
    summary="plastic feedback without weight symmetry, eq. 9",
    citation=_B,
)

rflo = KnownRule(
    name="rflo",
    terms=("rflo", "output_delta"),
    feedback=("lesson", "lesson-symmetric"),
    summary="random feedback local online learning, in a leaky network with its τ of 10",
    citation="Murray 2019, eLife 8:e43299",
)

e_prop = KnownRule(
    name="e_prop",
    terms=("e_prop", "output_delta"),
    feedback=("lesson", "lesson-symmetric"),
    summary="e-prop for rate neurons, in leaky:leak=potential with its τ of 10",
    citation="Bellec et al. 2020, a solution to the learning dilemma",
)

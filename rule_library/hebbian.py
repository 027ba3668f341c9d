"""Rules of unsupervised plasticity; most of them keep traces of activity.

They are textbook forms. Each cites its first publication; the time constants are our choice. No
pool contains them, so they must be named, as in `--terms error_hebbian,covariance,bcm`.
"""

from metaplast.terms.algebra import W, outer, post, pre, trace
from metaplast.terms.term import Term

# Time constants, in examples.
_MEAN, _THRESHOLD, _TIMING = 100, 50, 5
_SLOW_POST, _SLOW_PRE = trace(post.activity, _MEAN), trace(pre.activity, _MEAN)

hebbian = Term(
    name="hebbian",
    formula=outer(post.activity, pre.activity),
    citation="Hebb 1949, The Organization of Behavior",
    summary="Hebb's rule: neurons that fire together wire together",
    in_pool=False,
)

covariance = Term(
    name="covariance",
    formula=(
        outer(post.activity, pre.activity)
        - outer(_SLOW_POST, pre.activity)
        - outer(post.activity, _SLOW_PRE)
        + outer(_SLOW_POST, _SLOW_PRE)
    ),
    citation="Sejnowski 1977, storing covariance with nonlinearly interacting neurons",
    summary="covariance rule: both activities minus their running means",
    in_pool=False,
)

bcm = Term(
    name="bcm",
    formula=(
        outer(post.activity**2, pre.activity)
        - outer(post.activity * trace(post.activity**2, _THRESHOLD), pre.activity)
    ),
    citation="Intrator & Cooper 1992, the form of Bienenstock, Cooper & Munro 1982 with θ = E[y²]",
    summary="BCM rule: potentiation above a threshold that follows the squared activity",
    in_pool=False,
)

oja_single = Term(
    name="oja_single",
    formula=outer(post.activity, pre.activity) - W * outer(post.activity**2, pre.one),
    citation="Oja 1982, a simplified neuron model as a principal component analyzer",
    summary="Oja's single-neuron rule: local; each neuron finds the first principal component",
    in_pool=False,
)

pair_timing = Term(
    name="pair_timing",
    formula=(
        outer(post.activity, trace(pre.activity, _TIMING))
        - outer(trace(post.activity, _TIMING), pre.activity)
    ),
    citation="Song, Miller & Abbott 2000, pair-based timing rule, on rates",
    summary="pair-based timing rule on rates: pre before post potentiates, the reverse depresses",
    in_pool=False,
)

activity_scaling = Term(
    name="activity_scaling",
    formula=-(W * outer(_SLOW_POST, pre.one)),
    citation="van Rossum, Bi & Turrigiano 2000, activity-dependent scaling, without its target",
    summary="synaptic scaling: weights shrink with the running mean of the activity",
    in_pool=False,
)

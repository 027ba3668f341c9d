"""Rules with a third factor: a reward or an error, times an eligibility trace.

They are textbook forms; the time constants are our choice. No pool contains them, so they must be
named, as in `--terms reinforce_delayed`. They act where a system offers their signals, for example
the reward of `choice`.
"""

from metaplast.terms.algebra import eligible, outer, post, pre, reward, surprise, trace
from metaplast.terms.term import Term

# Time constant of the eligibility, in steps; near the delay of the reward or error.
_TAU = 4
# The default time constant of a leaky network's neurons: λ = 1 − 1/10.
_NETWORK_TAU = 10
_EXPLORED = outer(post.signal("deviation"), pre.activity)

reward_modulated_hebbian = Term(
    name="reward_modulated_hebbian",
    formula=surprise * outer(post.activity, pre.activity),
    citation="reward-modulated Hebbian learning, textbook form",
    summary="Hebb's rule, times the reward minus its running mean",
    in_pool=False,
)

exploratory_hebbian = Term(
    name="exploratory_hebbian",
    formula=surprise
    * (outer(post.activity, pre.activity) - outer(trace(post.activity, 5), pre.activity)),
    citation="Legenstein et al. 2010, the exploratory Hebb rule",
    summary="activity minus its running mean, times reward minus its running mean",
    in_pool=False,
)

reinforce = Term(
    name="reinforce",
    formula=surprise * _EXPLORED,
    citation="Williams 1992, Simple statistical gradient-following algorithms",
    summary="the neuron's deviation from its expectation, times reward minus its running mean",
    in_pool=False,
)

reinforce_delayed = Term(
    name="reinforce_delayed",
    formula=surprise * eligible(_EXPLORED, _TAU),
    citation="Williams 1992, with an eligibility as in Fiete & Seung 2006",
    summary="REINFORCE for delayed rewards: deviations are collected until the reward comes",
    in_pool=False,
)

rewarded_eligibility = Term(
    name="rewarded_eligibility",
    formula=reward * eligible(_EXPLORED, _TAU),
    citation="Williams 1992, without a baseline",
    summary="the reward times the collected deviations",
    in_pool=False,
)

mean_reward_eligibility = Term(
    name="mean_reward_eligibility",
    formula=trace(reward, 20) * eligible(_EXPLORED, _TAU),
    citation="Williams 1992, its baseline alone",
    summary="the running mean of the reward times the collected deviations",
    in_pool=False,
)

rflo = Term(
    name="rflo",
    formula=-(
        post.signal("lesson")
        * eligible(0.1 * outer(post.signal("slope"), pre.activity), _NETWORK_TAU)
    ),
    citation="Murray 2019, Local online learning in recurrent networks with random feedback",
    summary="RFLO: the step's lesson times the filtered slope and activity; τ of the network",
    in_pool=False,
)

e_prop = Term(
    name="e_prop",
    formula=-(
        post.signal("lesson")
        * post.signal("slope")
        * eligible(outer(post.one, pre.activity), _NETWORK_TAU)
    ),
    citation="Bellec et al. 2020, the rate form of e-prop",
    summary="e-prop for rates: lesson and slope times the filtered activity; τ of the network",
    in_pool=False,
)

output_delta = Term(
    name="output_delta",
    formula=-outer(post.signal("output_error"), pre.activity),
    citation="the delta rule, Widrow & Hoff 1960",
    summary="the delta rule of a readout, alongside rules for the neurons below it",
    in_pool=False,
)

error_hebbian_delayed = Term(
    name="error_hebbian_delayed",
    formula=-(post.error * eligible(outer(post.one, pre.activity), _TAU)),
    citation="the delta rule, Widrow & Hoff 1960, with an eligibility",
    summary="the error times the recent presynaptic activity, for delayed errors",
    in_pool=False,
)

"""Two rules for the readouts of a reservoir: exploration by reward, mastery by least squares.

Both act on groups that offer the signals they read: the readouts of the system `reservoir`.
"""

from metaplast.terms.algebra import outer, post, pre, scalar
from metaplast.terms.term import Term

_SOURCE = (
    "Pyle & Rosenbaum 2019, A reservoir computing model of reward-modulated motor learning and "
    "automaticity"
)

node_perturbation = Term(
    name="node_perturbation",
    formula=scalar("reward") * outer(post.signal("deviation"), pre.activity),
    citation=f"{_SOURCE}: exploration (RMHL)",
    summary="reward-modulated Hebbian learning: reward times the noise added to the output",
)

recursive_least_squares = Term(
    name="recursive_least_squares",
    formula=scalar("consolidation") * outer(post.signal("lesson"), pre.signal("decorrelated")),
    citation=f"{_SOURCE}: mastery, the update of FORCE",
    summary="recursive least squares: the lesson times the activity decorrelated by P",
    reads_nonlocal=True,
)

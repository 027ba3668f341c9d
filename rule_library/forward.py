"""The pool of ten candidate terms for the forward weights.

Shervani-Tabar & Rosenbaum, Nature Communications 14:1805 (2023), doi:10.1038/s41467-023-37562-1,
table of candidate terms F0 … F9. Signs follow the table, in which the learned coefficient of
`error_error` is negative. A term that is a multiple of a generated term has the name of that term
as an alias.
"""

from metaplast.terms.algebra import W, dot, outer, post, pre, total
from metaplast.terms.term import Term

_POOL = "Shervani-Tabar & Rosenbaum 2023, candidate term"

error_hebbian = Term(
    name="error_hebbian",
    formula=-outer(post.error, pre.activity),
    citation=f"{_POOL} 0",
    summary="pseudo-gradient: the error times the presynaptic activity",
    aliases=("F0", "e_y"),
    # The published initial value: learning begins as plain feedback alignment at a small rate.
    initial=1e-3,
)

activity_error = Term(
    name="activity_error",
    formula=-outer(post.activity, pre.error),
    citation=f"{_POOL} 1",
    summary="postsynaptic activity times presynaptic error",
    aliases=("F1", "y_e"),
)

error_error = Term(
    name="error_error",
    formula=-outer(post.error, pre.error),
    citation=f"{_POOL} 2",
    summary="eHebb: Hebbian learning of the errors",
    aliases=("F2", "e_e"),
)

decay = Term(
    name="decay",
    formula=-W,
    citation=f"{_POOL} 3",
    summary="weight decay",
    aliases=("F3",),
    nonnegative=True,
)

presynaptic_error = Term(
    name="presynaptic_error",
    formula=-outer(post.one, pre.error),
    citation=f"{_POOL} 4",
    summary="only the presynaptic error, the same for all postsynaptic neurons",
    aliases=("F4", "one_e"),
)

summed_error_hebbian = Term(
    name="summed_error_hebbian",
    formula=-(total(post.activity) * outer(post.error, pre.activity)),
    citation=f"{_POOL} 5",
    summary="error-Hebbian, scaled by the layer's total activity",
    aliases=("F5", "e_y_by_post_y_one"),
)

gated_activity_error = Term(
    name="gated_activity_error",
    formula=-(dot(W.T @ post.activity, pre.error) * outer(post.activity, pre.error)),
    citation=f"{_POOL} 6",
    summary="activity-error, scaled by the match of presynaptic error and Wᵀy",
    aliases=("F6", "y_e_by_pre_e_wty"),
)

gated_error_hebbian = Term(
    name="gated_error_hebbian",
    formula=-(dot(W.T @ post.activity, pre.error) * outer(post.error, pre.activity)),
    citation=f"{_POOL} 7",
    summary="error-Hebbian, scaled by the match of presynaptic error and Wᵀy",
    aliases=("F7", "e_y_by_pre_e_wty"),
)

cross_gated_activity_error = Term(
    name="cross_gated_activity_error",
    formula=-(dot(W.T @ post.error, pre.activity) * outer(post.activity, pre.error)),
    citation=f"{_POOL} 8",
    summary="activity-error, scaled by the match of error and net input",
    aliases=("F8", "y_e_by_pre_y_wte"),
)

oja = Term(
    name="oja",
    formula=outer(post.activity, pre.activity) - outer(post.activity, W.T @ post.activity),
    citation=f"{_POOL} 9; Oja 1989, doi:10.1142/S0129065789000475",
    summary="Oja's subspace rule: Hebbian learning towards orthonormal weights",
    aliases=("F9",),
)

"""Candidate terms for the backward weights B of plastic feedback.

Shapes: B is [pre, post]; its row side is the presynaptic layer, which receives the error.
"""

from metaplast.terms.algebra import B, outer, post, pre
from metaplast.terms.term import Term

_EQ9 = "Shervani-Tabar, Mirhoseini & Rosenbaum 2024, arXiv:2408.08408, eq. 9"
_KOLEN = "Kolen & Pollack 1994, doi:10.1109/ICNN.1994.374486"

backward_hebbian = Term(
    name="backward_hebbian",
    formula=-outer(pre.activity, post.error),
    citation=f"{_EQ9}; {_KOLEN}",
    summary="the transpose of the error-Hebbian term, acting on B",
    aliases=("b_y_e",),
)

backward_decay = Term(
    name="backward_decay",
    formula=-B,
    citation=f"{_EQ9}; {_KOLEN}",
    summary="decay of the backward weights; if W decays and learns alike, B converges to Wᵀ",
    nonnegative=True,
)

backward_error_error = Term(
    name="backward_error_error",
    formula=-outer(pre.error, post.error),
    citation="the transpose of Shervani-Tabar & Rosenbaum 2023, candidate term 2",
    summary="the transpose of the eHebb term, acting on B",
    aliases=("b_e_e",),
)

backward_activity_error = Term(
    name="backward_activity_error",
    formula=-outer(pre.error, post.activity),
    citation="the transpose of Shervani-Tabar & Rosenbaum 2023, candidate term 1",
    summary="the transpose of the activity-error term, acting on B",
    aliases=("b_e_y",),
)

backward_oja = Term(
    name="backward_oja",
    formula=outer(pre.activity, post.activity) - outer(pre.activity, B.T @ pre.activity),
    citation="Oja 1989, doi:10.1142/S0129065789000475, with pre and post exchanged",
    summary="Oja's subspace rule on the backward weights",
)

backward_error_oja = Term(
    name="backward_error_oja",
    formula=outer(pre.error, post.error) - outer(pre.error, B.T @ pre.error),
    citation="Oja 1989, doi:10.1142/S0129065789000475, on the errors that B carries",
    summary="Oja's subspace rule driven by errors, acting on B",
)

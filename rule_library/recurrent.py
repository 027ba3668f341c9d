"""Two forms of Oja's rule on recurrent weights, driven by their contribution to the next potential.

Both have the drive u_t = W_h σ(z_t) as postsynaptic signal, which leaves out the new input. They
act on groups that offer the drive: the recurrent weights of `--system recurrent`.
"""

from metaplast.terms.algebra import W, outer, post, pre
from metaplast.terms.term import Term

_DRIVE = post.signal("drive")
_SOURCE = "Shervani-Tabar, Mirhoseini & Rosenbaum 2024, arXiv:2408.08408, section 2.4"

potential_oja = Term(
    name="potential_oja",
    formula=outer(_DRIVE, pre.signal("potential")) - outer(_DRIVE, W.T @ _DRIVE),
    citation=f"{_SOURCE}, as printed",
    summary="Oja's rule on recurrent weights as printed; it reconstructs the potential",
)

drive_oja = Term(
    name="drive_oja",
    formula=outer(_DRIVE, pre.activity) - outer(_DRIVE, W.T @ _DRIVE),
    citation=f"Oja 1989, doi:10.1142/S0129065789000475, on the drive of {_SOURCE}",
    summary="Oja's subspace rule on recurrent weights; it reconstructs the activity",
)

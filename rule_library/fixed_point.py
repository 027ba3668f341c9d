"""Two reparameterised rules of recurrent networks at their fixed points.

The Euclidean gradient step −(I − G Wᵀ)⁻¹ G ∇ rᵀ, which is `error_hebbian` with implicit errors,
contains an inverse. Both rules replace it by products with W. Only the system `fixed-point` offers
the signals that they read.
"""

from metaplast.terms.algebra import outer, post, pre
from metaplast.terms.term import Term

_CODE = "released code LearningFixedPointsInRNNs"

reparameterised = Term(
    name="reparameterised",
    formula=-outer(post.signal("linearised_error"), pre.signal("linearised_rate")),
    citation=f"{_CODE}, rule 3: the linearised reparameterised gradient",
    summary="(I − W G) G ∇ rᵀ (I − G W)ᵀ (I − G W): descent under another metric on W",
    reads_nonlocal=True,
)

reparameterised_ungated = Term(
    name="reparameterised_ungated",
    formula=-outer(post.signal("ungated_error"), pre.signal("ungated_rate")),
    citation=f"{_CODE}, rule 4, added in February 2024",
    summary="(I − W G) ∇ rᵀ (I − W G)ᵀ (I − W G): the same without the outer gain",
    reads_nonlocal=True,
)

"""The matrices through which a recurrent network's errors go down, by `Feedback.kernel`."""

from __future__ import annotations

# Fixed matrices, Wᵀ, Wᵀ held constant, or |M|ᵀ ⊙ sign W.
STILL, SYMMETRIC, DETACHED, SIGNED = range(4)
SOURCES = {"own": STILL, "symmetric": SYMMETRIC, "detached": DETACHED, "signed": SIGNED}

"""Where the errors of a recurrent network pass, by the kernel that a feedback names."""

from __future__ import annotations

# Fixed matrices, Wᵀ, Wᵀ held constant, or |M|ᵀ ⊙ sign W.
STILL, SYMMETRIC, DETACHED, SIGNED = range(4)
SOURCES = {"own": STILL, "symmetric": SYMMETRIC, "detached": DETACHED, "signed": SIGNED}

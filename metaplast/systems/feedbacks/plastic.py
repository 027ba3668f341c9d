"""Backward weights that the rule changes."""

from __future__ import annotations

from metaplast.systems.feedbacks.fixed import Fixed


class Plastic(Fixed):
    """B_ℓ starts random and is changed by the rule's backward terms (Shervani-Tabar et al. 2024,
    eq. 9)."""

    name = "plastic"
    summary = "B random at first, then changed by backward terms"
    is_plastic = True
    note = "the feedback matrices are random at first and plastic"


plastic = Plastic()

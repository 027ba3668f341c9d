"""Lessons: output errors that reach all neurons in the same time step, and are not carried back."""

from __future__ import annotations

from typing import ClassVar

from metaplast.systems.feedbacks.fixed import Fixed
from metaplast.systems.feedbacks.symmetric import Symmetric


class Lesson(Fixed):
    """The lesson B ε_t with B random and fixed (Murray 2019)."""

    name = "lesson"
    summary = "the output error of the step through a random fixed B (leaky only)"
    systems: ClassVar[tuple[str, ...]] = ("leaky",)
    kernel: ClassVar[str | None] = None
    code = None
    equation = "eₜ = (B εₜ) ⊙ σ′"
    latex = r"e_{t} = (B\, \varepsilon_{t}) \odot \sigma'"
    note = "the output error of each step reaches the neurons through a random fixed matrix"


class SymmetricLesson(Symmetric):
    """The lesson W_oᵀ ε_t."""

    name = "lesson-symmetric"
    summary = "the output error of the step through the readout's transpose (leaky only)"
    systems: ClassVar[tuple[str, ...]] = ("leaky",)
    kernel: ClassVar[str | None] = None
    code = None
    equation = "eₜ = (Wₒᵀ εₜ) ⊙ σ′"
    latex = r"e_{t} = (W_{o}^{\top}\, \varepsilon_{t}) \odot \sigma'"
    note = "the output error of each step reaches the neurons through the readout's transpose"


lesson = Lesson()
lesson_symmetric = SymmetricLesson()

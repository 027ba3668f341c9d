"""Direct feedback alignment."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from metaplast.systems.feedback import ErrorPass, Feedback, Shape


class Direct(Feedback):
    """e_ℓ = (D_ℓ e_L) ⊙ σ'(z_ℓ); D_ℓ random and fixed, [episode, neuron, class] (Nøkland 2016)."""

    name = "direct"
    summary = "the output error sent straight to each layer, direct feedback alignment"
    kernel = "direct"
    code = "feedback[k] @ e[L]"
    equation = "eₗ = (Dₗ e_L) ⊙ σ′(zₗ)"
    latex = r"e_{\ell} = (D_{\ell}\, e_{L}) \odot \sigma'(z_{\ell})"
    note = (
        "the feedback matrices are random and fixed and carry the output error straight to each "
        "layer"
    )

    def shapes(self, widths: Sequence[int]) -> tuple[Shape, ...]:
        """Return the shape of each D_ℓ, ℓ = 0 … L-1."""
        return tuple((width, widths[-1]) for width in widths[:-1])

    def errors(self, given: ErrorPass) -> tuple[Tensor, ...]:
        """Return e_0 … e_L; see `Feedback.errors`."""
        carried = [
            given.backward[level].matmul(given.output_error) * given.slope(level)
            for level in given.levels
        ]
        return given.filled([*carried, given.output_error])


direct = Direct()

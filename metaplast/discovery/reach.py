"""Whether a known rule had enough outer steps to reach its best coefficients."""

from __future__ import annotations

from metaplast.base.notices import notice
from metaplast.meta.outer_loop import OuterLoop


def notice_shortfall(name: str, loop: OuterLoop) -> None:
    """Give a notice if a coefficient was still changing at full speed at the end of a loop.

    Args:
        name: the name of the rule.
        loop: the loop, after its last step.
    """
    found = loop.shortfall
    if found is not None:
        sentence = (
            f"{name}, whose {found.term} went from {found.start:.3g} to {found.end:.3g}, nearly as "
            f"far as {loop.settings.steps} steps of {found.step:g} allow; raise --meta-lr or "
            f"--episodes"
        )
        notice("of the baselines may need more outer steps", 1, lambda: sentence)

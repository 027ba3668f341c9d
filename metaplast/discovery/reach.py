"""Whether a known rule had enough outer steps to reach its best coefficients."""

from __future__ import annotations

from metaplast.base.notices import notice
from metaplast.meta.outer_loop import OuterLoop

# If a coefficient covered more than this share of the longest possible distance, its best value may
# lie beyond.
_MOST = 0.8
# A loop of fewer steps is only a trial, so it gives no notice.
_FEWEST = 30


def notice_short_way(name: str, loop: OuterLoop) -> None:
    """Give notice if a coefficient moved nearly as far as the steps of its loop allow.

    Adam moves a scaled coefficient by at most about the step size, so the sum of all step sizes
    bounds the distance. A coefficient that moved nearly that far was still moving at the end.

    Args:
        name: the name of the rule.
        loop: the loop, after its last step.
    """
    settings, history = loop.settings, loop.progress.history
    if settings.optimizer != "Adam" or len(history) < _FEWEST:
        return
    longest = settings.meta_lr * loop.steps * (0.5 if settings.schedule == "cosine" else 1.0)
    scale, ends = loop.scale.columns(), loop.fitted.columns()
    for term, starts in history[0].theta.items():
        for start, end, unit in zip(starts, ends[term], scale[term], strict=True):
            if abs(end - start) > _MOST * longest * unit:
                sentence = (
                    f"{name}, whose {term} went from {start:.3g} to {end:.3g}, nearly as far as "
                    f"{loop.steps} steps of {settings.meta_lr:g} allow; raise --meta-lr or "
                    f"--episodes"
                )
                _tell(sentence)
                return


def _tell(sentence: str) -> None:
    notice("of the baselines may need more outer steps", 1, lambda: sentence)

"""Whether a search spent too many of its steps where learning is chaotic."""

from __future__ import annotations

from metaplast.base.notices import notice
from metaplast.meta.outer_loop import OuterLoop

# If a larger share of the steps shrank the coefficients, the search may have found little.
_MOST = 0.2
# A shorter search is probably only a test run, so it gives no notice.
_FEWEST = 30


def notice_rough_search(loop: OuterLoop) -> None:
    """Give a notice if many steps of a search only shrank the coefficients.

    Args:
        loop: the search, after its last step.
    """
    history = loop.progress.history
    shrunk = [record.step for record in history if record.shrunk]
    if len(history) < _FEWEST or len(shrunk) <= _MOST * len(history):
        return
    other = "" if loop.growth is not None else ", or --entry 160, with which the rule grows,"
    notice(
        f"of {len(history)} steps of the search only shrank the coefficients, because learning was "
        "chaotic",
        len(shrunk),
        lambda: f"outer step {shrunk[0]}; a smaller --meta-lr{other} may find more",
    )

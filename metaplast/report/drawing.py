"""The figure of one reservoir that learned to draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.report.canvas import GREY, style
from metaplast.reservoirs.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def drawing_figure(run: Run, target: Numbers) -> Figure:
    """Return the curve drawn in the last period of the test, distances and norms over time.

    Args:
        run: the run; numbers that are not finite leave gaps.
        target: one period, [step, 2].
    """
    from matplotlib.figure import Figure

    period = len(target)
    with style():
        figure = Figure(figsize=(9.6, 3.2), layout="constrained")
        drawn, distance, norms = figure.subplots(1, 3)
        last = run.drawn_at > run.drawn_at[-1] - period
        drawn.plot(*np.concatenate([target, target[:1]]).T, color=GREY, linewidth=2, alpha=0.5)
        drawn.plot(*run.position[last].T, linewidth=0.9)
        drawn.set(title="drawn in the last period", aspect="equal")
        times = run.at / period
        shown = np.where(run.distance > 0, run.distance, np.nan)
        distance.plot(times, shown)
        if np.isfinite(shown).any():
            distance.set_yscale("log")
        distance.set(title="distance to the target", xlabel="periods")
        norms.plot(times, run.exploration_norm, label="‖W₂‖, exploration")
        norms.plot(times, run.mastery_norm, label="‖W₁‖, mastery")
        norms.legend(fontsize=7)
        norms.set(title="norms of the readouts", xlabel="periods")
    return figure

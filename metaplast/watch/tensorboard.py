"""TensorBoard output; no other module depends on TensorBoard."""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from metaplast.base.paths import AnyPath, as_path
from metaplast.base.trouble import trouble
from metaplast.discovery.observer import Observer
from metaplast.discovery.result import (
    DISCOVERED,
    MOST_SHOWN,
    REFIT,
    SEARCH,
    Result,
    tried_in,
)
from metaplast.discovery.run import Discovery
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.record import Record
from metaplast.terms.coefficients import site_names

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
# The folder in it that has a run for each candidate term.
TERMS = "terms"
# The number of TensorBoard's colours. TensorBoard gives them to runs in the order in which these
# begin.
COLOURS = 7

# The charts of one section: for each title, the tags that the chart shows.
_Charts = Mapping[str, Sequence[object]]


class TensorBoard(Observer):
    """Writes a discovery as TensorBoard events: one TensorBoard run for each rule.

    The search and the refit form the run "discovered". Each baseline is a separate run, so that one
    chart compares their losses or scores. Because TensorBoard colours lines by run, each candidate
    term is also a run. The tab "custom scalars" shows θ, with at most seven terms in a chart, so
    that no colour occurs twice. In a pool of more than `MOST_SHOWN` candidates, only terms that the
    rule has had are runs, all in one chart.

    Args:
        folder: the folder of the discovery; events go to its sub-folder `tensorboard`.
    """

    def __init__(self, folder: AnyPath) -> None:
        self._folder = as_path(folder, "folder") / FOLDER
        self._writers: dict[str, SummaryWriter] = {}
        self._discovery: Discovery | None = None
        self._is_lost = False
        self._is_large = False
        # The terms that an earlier part of a resumed run has shown.
        self._earlier: set[str] = set()

    def begin(self, discovery: Discovery) -> None:
        """Store the discovery: its terms, baselines and earlier steps are needed later."""
        self._discovery = discovery
        self._is_large = len(discovery.choice.terms) > MOST_SHOWN
        if discovery.stages.done:
            self._earlier = {path.name for path in (self._folder / TERMS).glob("*")}

    def record(self, loop: OuterLoop, record: Record) -> None:
        """Write the scalars of one outer step, but not of the selection's trials."""
        self._try(lambda: self._record(loop, record))

    def _record(self, loop: OuterLoop, record: Record) -> None:
        if tried_in(record.stage):
            return
        if not self._writers:
            self._begin(record)
        writer, name = self._writer(record.stage)
        step = self._offset(record.stage) + record.episodes
        scalars: dict[str, float] = {
            "meta/loss": record.loss,
            f"meta/{loop.learner.system.objective.score_scale.key}": record.score,
            "meta/gradient_norm": record.gradient_norm,
            "rule/l1_norm": record.l1_norm,
            "rule/active_terms": record.active,
            "guard/non_finite_episodes": self._count(loop),
            "guard/shrunk_steps": sum(each.shrunk for each in loop.progress.history),
        }
        for term, values in record.theta.items():
            if name == DISCOVERED and self._is_shown(term, values):
                own = self._term_writer(record.stage, term)
                _write_sites(own, f"theta/{term}", values, step)
            elif name != DISCOVERED:
                _write_sites(writer, f"baseline/{term}", values, step)
        scalars |= {f"tau/{_tag(of)}": value for of, value in record.taus.items()}
        angles = enumerate(record.angles, start=1)
        scalars |= {f"angle/layer_{layer}": value for layer, value in angles}
        for tag, value in scalars.items():
            if math.isfinite(value):
                writer.add_scalar(tag, value, step)
        if loop.is_done:
            for each in self._writers.values():
                each.flush()

    def finish(self, result: Result) -> None:
        """Write the final rule, held-out scores and hyper-parameters, and close the files."""
        self._try(lambda: self._finish(result))

    def _try(self, write: Callable[[], None]) -> None:
        """Call `write`. If the machine cannot write, warn and stop writing; never end the run."""
        if self._is_lost:
            return
        try:
            write()
        except (OSError, RuntimeError) as error:
            found = trouble(error)
            if found is None:
                raise
            self._is_lost = True
            print(
                f"warning: TensorBoard's files end here, because {found.what}; the run continues.",
                file=sys.stderr,
            )

    def _finish(self, result: Result) -> None:
        self._end_curves(result)
        for name, evaluation in result.heldout.items():
            writer, _ = self._writer(SEARCH if name == DISCOVERED else name)
            writer.add_scalar(f"heldout/{result.score.key}", evaluation.band.mean, 0)
        writer, _ = self._writer(SEARCH)
        # In Markdown, two spaces at the end of a line break it.
        writer.add_text("rule/equation", "  \n".join(str(result.rule).splitlines()), 0)
        metrics = {
            f"heldout/{name}": evaluation.band.mean for name, evaluation in result.heldout.items()
        }
        metrics["rule/kept_terms"] = float(len(result.kept))
        writer.add_hparams(_hyper_parameters(result), metrics, run_name=".")
        for each in self._writers.values():
            each.close()

    def _end_curves(self, result: Result) -> None:
        """End each term's curve at its final coefficient, zero if selection dropped it."""
        seen = {record.stage: record.episodes for record in result.history}
        step = seen.get(SEARCH, 0) + seen.get(REFIT, 0)
        searched, final = result.searched.named_theta, result.rule.named_theta.columns()
        for term, before in searched.columns().items():
            values = final.get(term, [0.0] * searched.sites)
            if self._is_shown(term, [*before, *values]):
                own = self._term_writer(SEARCH, term)
                _write_sites(own, f"theta/{term}", values, step + 1)

    def _is_shown(self, term: str, values: Sequence[float]) -> bool:
        """Return whether a candidate has a run, or begins one with these coefficients."""
        is_run = term in self._earlier or _run_of(term) in self._writers
        return not self._is_large or is_run or any(values)

    def _count(self, loop: OuterLoop) -> int:
        """Return how many episodes have diverged so far; in the refit, with those of the search."""
        loops = [loop]
        if loop.stage == REFIT and self._discovery is not None:
            loops.append(self._discovery.stages.loops[SEARCH])
        return sum(record.non_finite for each in loops for record in each.progress.history)

    def _offset(self, stage: str) -> int:
        """Return where a stage begins on the episode axis: the refit follows the search."""
        if stage != REFIT or self._discovery is None:
            return 0
        stages = self._discovery.stages
        search = stages.loops.get(SEARCH)
        if search is None:
            return stages.done.get(SEARCH, 0)
        return search.progress.step * search.settings.meta_batch

    def _begin(self, record: Record) -> None:
        """Begin all runs, in an order in which each line of a chart gets its own colour."""
        writer, _ = self._writer(SEARCH)
        discovery = self._discovery
        terms = [*record.theta]
        if discovery is not None:
            terms = [term.name for term in discovery.choice.terms]
            for rival in discovery.rivals:
                self._writer(rival.name)
        groups = [] if self._is_large else _groups(terms)
        for term in itertools.chain(*groups):
            self._term_writer(SEARCH, term)
        sites = max(map(len, record.theta.values()), default=1)
        writer.add_custom_scalars(_layout(groups, sites, len(record.angles)))

    def _writer(self, stage: str) -> tuple[SummaryWriter, str]:
        name = DISCOVERED if stage in (SEARCH, REFIT) else stage
        if name not in self._writers:
            self._writers[name] = summary_writer(self._folder / name, self._purge_step(stage))
        return self._writers[name], name

    def _term_writer(self, stage: str, term: str) -> SummaryWriter:
        """Return the writer of one candidate term's run."""
        name = _run_of(term)
        if name not in self._writers:
            self._writers[name] = summary_writer(self._folder / name, self._purge_step(stage))
        return self._writers[name]

    def _purge_step(self, stage: str) -> int | None:
        """Return the first episode that a resumed run writes again, None in a new run."""
        if self._discovery is None or not self._discovery.stages.done:
            return None
        done = self._discovery.stages.done
        stage = REFIT if stage == SEARCH and REFIT in done else stage
        return self._offset(stage) + done.get(stage, 0) + 1


def _tag(name: str) -> str:
    """Return a name with only the characters that a tag may have."""
    return re.sub(r"[^\w.]+", "_", name).strip("_")


def _write_sites(writer: SummaryWriter, tag: str, values: Sequence[float], step: int) -> None:
    """Write one value for each site, or the one that all sites share."""
    for each, value in zip(site_names(tag, len(values), "/layer_"), values, strict=True):
        writer.add_scalar(each, value, step)


def _run_of(term: str) -> str:
    """Return the name of a candidate's run."""
    return f"{TERMS}/{term}"


def _groups(terms: Sequence[str]) -> list[Sequence[str]]:
    """Return the terms in as few groups as have no more terms than TensorBoard has colours."""
    count = max(1, math.ceil(len(terms) / COLOURS))
    size = max(1, math.ceil(len(terms) / count))
    return [terms[start : start + size] for start in range(0, len(terms), size)]


def _layout(groups: Sequence[Sequence[str]], sites: int, layers: int) -> Mapping[str, _Charts]:
    """Return the sections of the tab "custom scalars".

    Args:
        groups: the names of the candidates in each chart; empty for one chart with every run.
        sites: how many coefficients each candidate has.
        layers: how many angles are measured.
    """
    charts: dict[str, Sequence[object]] = {}
    for site in site_names("", sites, "/layer_"):
        where = site.replace("/layer_", ", layer ")
        for group in groups or [()]:
            title = "coefficients" if len(groups) < 2 else f"{group[0]} to {group[-1]}"
            tags = "|".join(map(re.escape, group)) or ".+"
            charts[title + where] = ["Multiline", [f"^theta/({tags}){site}$"]]
    angles = {
        f"angle to backprop, degrees, layer {layer}": ["Multiline", [f"^angle/layer_{layer}$"]]
        for layer in range(1, layers + 1)
    }
    return {"theta": charts} | ({"errors": angles} if angles else {})


@cache
def _let_writers_end_quietly() -> None:
    """Suppress the traceback of a writer's thread that fails; the next write raises the error."""
    before = threading.excepthook

    def tell(args: threading.ExceptHookArgs) -> None:
        if type(args.thread).__module__.partition(".")[0] != "tensorboard":
            before(args)

    threading.excepthook = tell


def summary_writer(folder: AnyPath, purge_step: int | None) -> SummaryWriter:
    """Return a TensorBoard writer.

    TensorBoard is imported only here, because importing it may load TensorFlow.

    Args:
        folder: the folder of the events.
        purge_step: the first step that a resumed run writes again; None in a new run.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    from torch.utils.tensorboard import SummaryWriter

    _let_writers_end_quietly()
    return SummaryWriter(str(as_path(folder, "folder")), purge_step=purge_step, flush_secs=5)


def _hyper_parameters(result: Result) -> dict[str, bool | str | float | int]:
    """Return the configuration, with defaults filled in, in types that TensorBoard accepts."""
    config = result.config
    data = config.to_json() | {
        "dataset": result.dataset,
        "feedback": config.feedback_name,
        "l1": config.penalty_weight,
        "engine": result.engine,
    }
    del data["data_root"]
    return {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in data.items()
    }

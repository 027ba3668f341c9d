"""The time left: counted exactly at the end, near the truth long before, told in plain words."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console
from support import Clouds

from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.fits import Fit
from metaplast.discovery.loops import ASKED
from metaplast.discovery.refits import Refits
from metaplast.discovery.result import REFIT, trial, tried_in
from metaplast.discovery.run import Discovery
from metaplast.tasks.source import EpisodeSplit
from metaplast.watch.console import ProgressBar
from metaplast.watch.course import selection_left
from metaplast.watch.estimate import TimeLeft, in_words, kind_of
from metaplast.watch.prices import Prices

SPLIT = EpisodeSplit(Clouds(), Clouds(), "classes", inputs=6, outputs=3, description="clouds")
SMALL = {
    "hidden": (5,), "ways": 3, "shots": 2, "queries": 2, "l1": 0.001, "dataset": "digits",
    "engine": "fused", "episodes": 10, "meta_batch": 1, "refit": 12, "refit_batch": 4,
    "validation": 6, "test_episodes": 6,
}  # fmt: skip
POOL = ",".join(f"F{number}" for number in range(10))


class Simulated:
    """An observer with a clock of its own, on which each task of a kind takes a known time.

    Attributes:
        points: (time, estimate of the time left) after each piece of work.
        priced: when the first refit had been measured; its price is a guess until then.
    """

    priced = 0.0

    def __init__(self, costs=None, first=0.0, stop_after=None):
        self.costs, self.now, self.first, self.stop_after = costs, 0.0, first, stop_after
        self.left, self.points = TimeLeft(lambda: self.now), []

    def begin(self, discovery):
        self.left.begin(discovery)

    def record(self, loop, record):
        self._work(kind_of(record.stage), loop.settings.meta_batch)
        self.left.record(loop, record)
        self._note()

    def tested(self, name, episodes):
        self._work("refit" if name == ASKED else "evaluation", episodes)
        self.left.tested(name, episodes)
        if kind_of(name) == "refit" and not self.priced:
            self.priced = self.now
        self._note()

    def finish(self, result):
        self.left.finish(result)

    def _work(self, kind, tasks):
        if self.costs is not None:
            self.now += tasks * self.costs[kind] + self.first * (not self.points)

    def _note(self):
        self.points.append((self.now, self.left.seconds))
        if len(self.points) == self.stop_after:
            raise KeyboardInterrupt


COSTS = {
    "the usual ones": {"search": 1.0, "baseline": 0.9, "refit": 0.5, "evaluation": 0.2},
    "all tasks alike": {"search": 1.0, "baseline": 1.0, "refit": 1.0, "evaluation": 1.0},
    "large batches are cheap": {"search": 2.0, "baseline": 2.0, "refit": 0.5, "evaluation": 0.1},
}


@pytest.mark.slow
@pytest.mark.parametrize("needed", [{0, 2, 4, 9}, {0, 9}, {3}], ids=str)
def test_the_estimate_is_within_30_percent_from_the_first_refit_on(needed, monkeypatch):
    # Selection keeps the needed terms and finds no rivals, so it takes the usual number of refits.
    def lacks(fit, other):
        return bool(needed & set(other.kept) - set(fit.kept))

    monkeypatch.setattr(Fit, "is_worse_than", lambda fit, other, least: lacks(fit, other))
    monkeypatch.setattr(Fit, "gain_over", lambda fit, other: -float(lacks(fit, other)))
    monkeypatch.setattr(Refits, "rival", lambda *_: None)
    watches = [Simulated(costs, first=10.0) for costs in COSTS.values()]
    Discovery(DiscoveryConfig(terms=POOL, **SMALL), observers=watches, split=SPLIT).run()
    for watch in watches:
        end = watch.now
        begin = max(0.2 * end, watch.priced)
        late = [(end - now, left) for now, left in watch.points if begin < now < end]
        assert len(late) > 50
        assert all(abs(left - rest) <= 0.3 * rest for rest, left in late)


@pytest.mark.parametrize(
    ("tried", "left"),
    [
        (["as it is"], 2),
        (["as it is", "with decay", "with oja"], 0),
        # A swap may be followed by one more refit of the rule, which is the last.
        (["as it is", "with decay", "with oja", "with oja instead of decay"], 1),
        (["as it is", "with oja instead of decay", "as it is, once more"], 0),
    ],
)
def test_a_swap_leaves_one_refit_of_the_rule(tried, left):
    learner = SimpleNamespace(terms=range(4))
    stages = [REFIT, *(trial(number, what) for number, what in enumerate(tried, 1))]
    discovery = SimpleNamespace(
        stages=SimpleNamespace(loops={name: SimpleNamespace(learner=learner) for name in stages}),
        choice=SimpleNamespace(is_pool=True, terms=range(10)),
        config=SimpleNamespace(refit=400), selection=None,
    )  # fmt: skip
    assert selection_left(discovery)[0] == left


@pytest.mark.slow
@pytest.mark.parametrize("terms", ["F0,F2", "bio", "feedback_alignment"])
@pytest.mark.parametrize("refit", [0, 12])
def test_at_the_end_nothing_is_left(terms, refit):
    watch = Simulated(COSTS["the usual ones"])
    config = DiscoveryConfig(terms=terms, **SMALL | {"refit": refit})
    Discovery(config, observers=[watch], split=SPLIT).run()
    assert watch.left.done == watch.left.total
    assert watch.left.seconds == 0


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [5, 12, 30])
def test_a_run_that_goes_on_counts_what_was_done(stop_after, tmp_path):
    config = DiscoveryConfig(terms="F0,F2,F4", **SMALL)
    first, again = Simulated(stop_after=stop_after), Simulated()
    with pytest.raises(KeyboardInterrupt):
        Discovery(config, folder=tmp_path, observers=[first], split=SPLIT).run()
    Discovery.resume(tmp_path, observers=[again], split=SPLIT).run()
    assert again.left.done == again.left.total
    assert again.left.done >= first.left.done


def test_a_baseline_may_have_any_name():
    assert kind_of("selective_hebb") == kind_of("select") == "baseline"
    assert kind_of(trial(3, "without oja")) == kind_of("refit") == "refit"
    assert tried_in(trial(3, "without oja")) == "without oja"


def test_before_the_first_task_no_time_is_known():
    left = TimeLeft()
    assert (left.seconds, left.total) == (None, 0)
    left.begin(Discovery(DiscoveryConfig(terms="bio", **SMALL), split=SPLIT))
    assert left.seconds is None
    # The search, the two other baselines, and the test of all three.
    assert left.total >= 10 + 6


@pytest.mark.parametrize("terms", ["bio", "F0,F2"])
def test_an_estimate_does_not_derive_the_settings_of_the_run_again(terms, monkeypatch):
    left = TimeLeft()
    left.begin(Discovery(DiscoveryConfig(terms=terms, **SMALL | {"l1": None}), split=SPLIT))
    total = left.total
    # Deriving them takes milliseconds, and observers estimate after every outer step.
    monkeypatch.setattr(DiscoveryConfig, "build_system", lambda *_, **__: pytest.fail("derived"))
    assert left.total == total


def test_prices_forget_the_first_task_of_a_kind():
    prices = Prices()
    assert prices.of({"search": 3}) is None
    prices.observe("search", 2, 100.0)
    assert prices.of({"search": 3}) is None
    prices.observe("search", 2, 4.0)
    prices.observe("search", 4, 8.0)
    assert prices.of({"search": 3}) == pytest.approx(6.0)


def test_unknown_prices_are_guessed_from_known_ones():
    prices = Prices()
    prices.observe("search", 1, 50.0)
    prices.observe("search", 1, 3.0)
    assert prices.of({"evaluation": 6}) == pytest.approx(6.0)
    prices.observe("refit", 1, 1.0)
    assert prices.of({"baseline": 2}) == pytest.approx(6.0)
    assert prices.of({"evaluation": 6}) == pytest.approx(4.0)


WORDS = {
    None: "time left unknown",
    0: "less than a minute left",
    59: "less than a minute left",
    61: "about 1 min left",
    185: "about 3 min left",
    23 * 60: "about 25 min left",
    3590: "about 1 h left",
    80 * 60: "about 1 h 20 min left",
    26 * 3600: "about 1.1 days left",
}


@pytest.mark.parametrize("seconds", WORDS)
def test_time_is_told_in_plain_words(seconds):
    assert in_words(seconds) == WORDS[seconds]


@pytest.mark.slow
def test_in_a_pipe_lines_say_how_much_time_is_left():
    console = Console(file=io.StringIO(), width=140)
    config = DiscoveryConfig(terms="bio", **SMALL)
    Discovery(config, observers=[ProgressBar(console)], split=SPLIT).run()
    lines = console.file.getvalue().splitlines()
    assert lines[0].startswith("searching: step 2/10, loss")
    assert all(line.endswith("less than a minute left") for line in lines)

"""The recurrent network against plain loops, against autograd, and against its copies in time."""

import math
import pickle
from dataclasses import replace

import pytest
import torch
from live_memory import LiveMatrices
from support import assert_close, matrices_of, named, normal, refusal, seeded

from metaplast.discovery.config import DiscoveryConfig
from metaplast.engines import Problem, get_engine
from metaplast.systems.feedback import all_feedbacks
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.sequence_network import SITES
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples
from metaplast.systems.timing import Timing
from metaplast.tasks.batch import EpisodeBatch
from metaplast.terms.algebra import post, pre

DELAYED = Timing(1, 2, 4)
EACH = Timing(3, 1, 3, each=True)
FEEDBACKS = [name for name, f in all_feedbacks().items() if "recurrent" in f.systems]


def network(timing=DELAYED, feedback="fixed", widths=(2, 3, 2), **options):
    return Recurrent(widths, timing, feedback_name=feedback, **options)


def drawn(system, episodes=1, seed=1):
    return system.draw(episodes, seeded(seed), torch.float64)


def example_for(system, episodes=1, seed=2):
    x = normal(episodes, system.timing.frames, system.inputs, seed=seed)
    target = torch.randint(2, (episodes, *system.target_shape), generator=seeded(seed))
    return Examples(x, target)


def shown_by(system, state, example):
    reads = frozenset(s for group in system.groups for s in group.offers)
    return system.present(View.of(state), example, reads).synapses


# --- against plain loops ---


def times(matrix, vector):
    return [sum(w * v for w, v in zip(row, vector, strict=True)) for row in matrix]


def transposed(matrix):
    return [list(column) for column in zip(*matrix, strict=True)]


def plain(state, x, label, feedback):
    """Return z_t, e_t and drives of one example with one readout, and the output's error."""
    m = {name: matrix[0].tolist() for name, matrix in state.matrices.items()}
    z, drives = [], []
    for t, inputs in enumerate(x):
        drive = times(m["recurrent"], [math.tanh(a) for a in z[-1]]) if t else None
        arrived = times(m["input"], inputs)
        z.append(arrived if drive is None else [a + b for a, b in zip(drive, arrived, strict=True)])
        drives.append(drive)
    y = times(m["readout"], [math.tanh(a) for a in z[-1]])
    total = sum(math.exp(a) for a in y)
    out = [math.exp(a) / total - (i == label) for i, a in enumerate(y)]
    names = {"recurrent": "recurrent_feedback", "readout": "readout_feedback"}
    if feedback == "symmetric":
        back = {name: transposed(m[name]) for name in names}
    else:
        back = {name: m[own] for name, own in names.items()}
    e, carried = [], times(back["readout"], out)
    for a in reversed(z):
        e.insert(0, [c * (1 - math.tanh(v) ** 2) for c, v in zip(carried, a, strict=True)])
        carried = times(back["recurrent"], e[0])
    return z, e, drives, out


@pytest.mark.parametrize("feedback", ["fixed", "symmetric"])
@pytest.mark.parametrize("name", ["error_hebbian", "potential_oja", "drive_oja"])
def test_terms_are_those_of_plain_loops(name, feedback):
    system = network(feedback=feedback)
    learner = Learner(system, named(name))
    state, example = drawn(system), example_for(system)
    x = DELAYED.expanded(example.input)[0].tolist()
    z, e, drives, out = plain(state, x, int(example.target), feedback)
    h = [[math.tanh(a) for a in each] for each in z]
    expected = {name: torch.zeros_like(state.matrices[name][0]) for name in SITES}

    def add(site, row, column):
        product = [[a * b for b in column] for a in row]
        expected[site] = expected[site] + torch.tensor(product, dtype=torch.float64)

    recurrent = state.matrices["recurrent"][0].tolist()
    for t in range(len(z)):
        if name == "error_hebbian":
            add("input", [-a for a in e[t]], x[t])
            if t:
                add("recurrent", [-a for a in e[t]], h[t - 1])
        elif t:
            u = drives[t]
            add("recurrent", u, z[t - 1] if name == "potential_oja" else h[t - 1])
            add("recurrent", [-a for a in u], times(transposed(recurrent), u))
    if name == "error_hebbian":
        add("readout", [-a for a in out], h[-1])
    theta = torch.full((1, 3, 1), 0.1, dtype=torch.float64)
    after = learner.step(state, theta, example)
    for site in SITES:
        change = (after.matrices[site] - state.matrices[site])[0]
        assert_close(change, 0.1 * expected[site], 1e-12)
    assert any(bool(part.any()) for part in expected.values())


# --- errors ---


def gradients(system, state, example, reach=None):
    """Return ∂loss/∂z_t for each t by autograd; with a reach, errors of a step go K steps back."""
    x = system.timing.expanded(example.input)
    time, m = system.timing.time, state.matrices
    read = range(time) if system.timing.each else [time - 1]
    found = torch.zeros(len(x), time, m["recurrent"].shape[1], dtype=torch.float64)
    for s in read:
        z, nudges = None, []
        for t in range(s + 1):
            arrived = x[:, t] @ m["input"].mT[0]
            if z is not None:
                before = torch.tanh(z)
                if reach is not None and t <= s - reach:
                    before = before.detach()
                arrived = arrived + before @ m["recurrent"].mT[0]
            nudges.append(torch.zeros_like(arrived, requires_grad=True))
            z = arrived + nudges[-1]
        output = torch.tanh(z) @ m["readout"].mT[0]
        target = example.target[:, s] if system.timing.each else example.target
        loss = torch.nn.functional.cross_entropy(output, target, reduction="sum")
        parts = torch.autograd.grad(loss, nudges, allow_unused=True, materialize_grads=True)
        found[:, : s + 1] += torch.stack(parts, 1)
    return found


@pytest.mark.parametrize("timing", [DELAYED, EACH], ids=["last", "each"])
@pytest.mark.parametrize("feedback", ["symmetric", "symmetric-detached", "truncated:9"])
def test_symmetric_errors_are_the_gradient_through_time(feedback, timing):
    system = network(timing, feedback)
    state, example = drawn(system), example_for(system)
    errors = shown_by(system, state, example)["input"].signals[post.error]
    assert_close(errors, gradients(system, state, example), 1e-12)


@pytest.mark.parametrize("timing", [DELAYED, EACH], ids=["last", "each"])
@pytest.mark.parametrize("reach", [0, 1, 2])
def test_truncated_errors_go_so_many_steps_back(reach, timing):
    system = network(timing, f"truncated:{reach}")
    state, example = drawn(system), example_for(system)
    errors = shown_by(system, state, example)["input"].signals[post.error]
    assert_close(errors, gradients(system, state, example, reach), 1e-12)


def test_signals_before_and_after_a_synapse_are_of_two_steps():
    system = network(EACH, "symmetric")
    shown = shown_by(system, drawn(system), example_for(system))
    hidden, inner, out = (shown[name].signals for name in SITES)
    for kind in ("activity", "error", "potential"):
        whole = hidden[post.signal(kind)]
        assert torch.equal(inner[post.signal(kind)], whole[:, 1:])
        assert torch.equal(inner[pre.signal(kind)], whole[:, :-1])
        assert torch.equal(out[pre.signal(kind)], whole)
    assert_close(torch.tanh(hidden[post.signal("potential")]), hidden[post.activity], 1e-15)


def test_the_angle_to_backprop_is_zero_only_for_backprop():
    for feedback, timing in (("symmetric", EACH), ("fixed", EACH), ("fixed", DELAYED)):
        system = network(timing, feedback)
        one, two = (example_for(system, 2, seed=seed) for seed in (1, 2))
        query = Examples(*(torch.stack(pair, 1) for pair in zip(one[:2], two[:2], strict=True)))
        angles = Learner(system, named("oja")).error_angles(drawn(system, 2), query)
        assert angles.shape == (2, 1)
        assert bool((angles < 1e-4).all()) == (feedback == "symmetric")


# --- frames instead of copies ---


@pytest.mark.parametrize("feedback", ["fixed", "plastic", "symmetric", "truncated:2"])
def test_frames_are_copies_for_every_step(feedback):
    timing = Timing(2, 2, 6)
    whole = Timing(6, 1, 6)
    terms = named("error_hebbian", "error_error", "drive_oja")
    ends = []
    for each in (timing, whole):
        system = network(each, feedback)
        learner = Learner(system, terms)
        example = example_for(network(timing))
        if each is whole:
            example = example._replace(input=timing.expanded(example.input))
        theta = torch.full((1, 3, 3), 0.1, dtype=torch.float64)
        after = learner.step(drawn(system), theta, example)
        query = Examples(example.input[:, None], example.target[:, None])
        ends.append([*matrices_of(after), *learner.query(after, query)])
    for a, b in zip(*ends, strict=True):
        assert_close(a, b, 1e-13)


def test_a_frame_is_shown_and_then_nothing():
    x = Timing(2, 2, 5).expanded(torch.tensor([[[1.0], [2.0]]]))
    assert x[0, :, 0].tolist() == [1, 1, 2, 2, 0]
    assert [Timing(2, 2, 5).frame(t) for t in range(5)] == [0, 0, 1, 1, None]


# --- memory ---


def numbers_alive(examples, time):
    """Return the peak of memory in large tensors, in numbers."""
    system = Recurrent((3, 20, 2), Timing(1, 1, time))
    learner = Learner(system, named("error_hebbian", "drive_oja"))
    x = normal(1, examples, 1, 3)
    y = torch.zeros(1, examples, dtype=torch.int64)
    episodes = EpisodeBatch(x, y, x[:, :1], y[:, :1])
    state = learner.draw(1, seeded(), torch.float64)
    theta = torch.full((2,), 1e-4, dtype=torch.float64)
    with LiveMatrices(least=20) as live:
        get_engine("batched").run(Problem(learner, theta, state, episodes))
    return live.peak / 8


@pytest.mark.slow
def test_memory_grows_with_the_root_of_the_examples_and_with_time():
    base = numbers_alive(2, 2)
    assert numbers_alive(32, 2) < 3 * base
    assert numbers_alive(2, 8) < 4 * base


# --- refusals ---


def test_a_feedback_that_a_system_does_not_have_is_refused():
    said = refusal(network, feedback="direct")
    assert said.startswith("the system recurrent has no feedback direct; choose from ")
    assert all(name in said for name in FEEDBACKS)
    assert "truncated" in FEEDBACKS
    said = refusal(FullyConnected, (3, 2), feedback_name="truncated:3")
    assert "fully-connected has no feedback truncated" in said
    assert "direct" in said


@pytest.mark.parametrize(
    "text", ["truncated", "truncated:", "truncated:x", "truncated:-1", "truncated:1e3", "fixed:2"]
)
def test_wrong_arguments_of_a_feedback_are_refused(text):
    assert text.partition(":")[0] in refusal(network, feedback=text)


def test_one_feedback_has_one_name():
    assert network(feedback="truncated:02") == network(feedback="truncated:2")
    assert network(feedback="truncated:2") != network(feedback="truncated:3")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((1, 1, 1), "at least 2 time steps"),
        ((1, 3, 2), "is shown for 3 time steps, but the sequence has only 2"),
        ((3, 2, 5), "3 frames are shown for 6"),
        ((0, 1, 5), "number of frames"),
        ((1, 0, 5), "number of steps"),
        ((1, 1, 10**6), "at most 100,000"),
    ],
)
def test_impossible_timings_are_refused(values, words):
    assert words in refusal(Timing, *values)


def test_wrong_widths_are_refused():
    for widths in ((3, 2), (3, 0, 2), (3, 4, 4, 2)):
        assert "inputs, neurons and outputs" in refusal(network, widths=widths)


def test_a_term_acts_where_its_signals_are_offered():
    learner = Learner(network(), named("error_hebbian", "drive_oja"))
    assert [learner.acting(group) for group in learner.system.groups] == [(0,), (0, 1), (0,)]
    assert "reads post.drive" in refusal(Learner, FullyConnected((3, 2)), named("drive_oja"))


def test_a_pool_has_the_terms_that_the_system_offers():
    def terms(**options):
        return [t.name for t in DiscoveryConfig(terms="all", **options).choice.terms]

    own = DiscoveryConfig.for_system("recurrent").choice.terms
    assert [t.name for t in own] == [*terms(), "potential_oja", "drive_oja"]
    assert len(terms()) == 10


def test_the_data_must_have_the_frames_of_the_network():
    system = network(EACH)
    learner, state = Learner(system, named("oja")), drawn(system)
    x, y = normal(1, 2, 2, 2), torch.zeros(1, 2, 3, dtype=torch.int64)
    batch = EpisodeBatch(x, y, x, y)
    theta = torch.zeros(1, dtype=torch.float64)
    assert "sequences of 3 frames" in refusal(Problem, learner, theta, state, batch)


def test_a_network_is_a_value():
    system = network(EACH, "truncated:2", objective_name="classification")
    assert pickle.loads(pickle.dumps(system)) == system == replace(system)
    assert system.spec()["readout"] == "each"
    assert system.objective_name == "cross-entropy"
    state = State({"input": torch.zeros(1, 3, 2), "other": torch.zeros(1, 1, 1)})
    found = system.complete(state, 1, seeded(), torch.float32)
    assert list(found.matrices) == list(SITES)
    assert not found.matrices["input"].any()

"""Helpers of several test modules: random signals, small problems, samplers of random tasks."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from metaplast.base import files
from metaplast.base.errors import UserError
from metaplast.discovery.run import Observer
from metaplast.engines import Problem
from metaplast.systems.feedback import all_feedbacks
from metaplast.systems.fully_connected import OFFERED, FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.objective import get_objective
from metaplast.tasks.batch import EpisodeBatch
from metaplast.terms.algebra import post, pre
from metaplast.terms.library import all_terms
from metaplast.terms.operator import Operator
from metaplast.terms.term import Synapses

# Those of the fully connected stack.
FEEDBACKS = tuple(name for name, f in all_feedbacks().items() if "fully-connected" in f.systems)
# Those that the fused engine serves.
FUSED_FEEDBACKS = (
    *(n for n in FEEDBACKS if all_feedbacks()[n].kernel is not None),
    "predictive-coding:strict,eta=0.2,n=3",
)
# Those of pools that the fully connected stack can read.
TERMS = tuple(t for t in all_terms().values() if t.in_pool and t.signals <= OFFERED)
FORWARD = tuple(term for term in TERMS if not term.is_backward)
BACKWARD = tuple(term for term in TERMS if term.is_backward)
# Scalars of random synapses.
SCALARS = ("reward", "surprise")
# The scale of the default objective's score.
ACCURACY = get_objective("cross-entropy").score_scale


# The first lines of a script that imports modules of metaplast.base and loads nothing else of ours.
LIGHT = f"""
import sys, types
for name, folder in {{"metaplast": "", "metaplast.base": "/base"}}.items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [{str(Path(__file__).parents[1] / "metaplast")!r} + folder]
"""


# Replaces itself by a Python that an interrupt can end: the launcher of the tests may ignore them,
# and processes inherit that. `preexec_fn` would do it too, but not in a process that loaded JAX.
_INTERRUPTIBLE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def interruptible(*arguments):
    """Return the command line of a Python program that an interrupt ends."""
    return [sys.executable, "-c", _INTERRUPTIBLE, *map(str, arguments)]


# Runs programs, each in a process of its own, forked from one that has loaded what takes seconds to
# load: the first argument. A program is [folder, arguments, more search path, code].
_FORKS = """
import importlib, json, os, sys

for name in sys.argv[1].split(","):
    importlib.import_module(name)
programs, answers = json.loads(sys.argv[2]), []
for number, (folder, arguments, path, code) in enumerate(programs):
    child = os.fork()
    if not child:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{sys.argv[3]}/{number}.{name}", os.O_WRONLY | os.O_CREAT), stream)
        os.chdir(folder)
        sys.path[:0], sys.argv = path, arguments
        exec(compile(code, arguments[0], "exec"), {"__name__": "__main__"})
        break
    answers.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
else:
    print(json.dumps(answers))
"""


def run_forked(programs, folder, *, loaded="torch"):
    """Run programs in processes that have loaded nothing but `loaded`, and nothing of ours.

    Args:
        programs: [folder, arguments, more search path, code] of each.
        folder: for what they print.
        loaded: packages of others, with commas.

    Returns:
        The return code and the text on both streams of each program.
    """
    done = subprocess.run(
        [sys.executable, "-c", _FORKS, loaded, json.dumps(programs), str(folder)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [
        (code, *((folder / f"{number}.{name}").read_text("utf-8") for name in ("out", "err")))
        for number, code in enumerate(json.loads(done.stdout))
    ]


# Runs the command line in a fresh process; append the arguments.
MAIN = [sys.executable, "-c", "import sys; from metaplast.commands import main; sys.exit(main())"]

# Options of a discovery that takes a second.
SMALL_RUN = [
    "--hidden=5", "--ways=3", "--shots=2", "--queries=2", "--episodes=8", "--meta-batch=2",
    "--refit=0", "--look=4", "--validation=4", "--test-episodes=4", "--engine=batched",
    "--terms=error_hebbian,oja",
]  # fmt: skip


def named(*names):
    """Return the registered terms with these names, in this order."""
    return tuple(all_terms()[name] for name in names)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def random_synapses(matrix, *, episodes=2, posts=4, pres=3, occurrences=1, weight=1.0, seed=0):
    """Return random signals and scalars of both signs at the ends of a random `matrix`."""
    sizes = {"post": posts, "pre": pres}
    weights = normal(episodes, sizes[matrix.rows], sizes[matrix.columns], seed=seed)
    ends = [
        normal(episodes, occurrences, size, seed=seed + 1 + i)
        for i, size in enumerate((posts, posts, pres, pres))
    ]
    kinds = (post.activity, post.error, pre.activity, pre.error)
    scalars = {
        name: normal(episodes, occurrences, seed=seed + 5 + i) for i, name in enumerate(SCALARS)
    }
    return Synapses(Operator(weights), dict(zip(kinds, ends, strict=True)), weight, scalars)


def random_batch(inputs, outputs, *, steps, episodes, queries, seed=0, dtype=torch.float64):
    """Return episodes of uniform images in [0, 1] with random labels."""
    draw = seeded(seed)
    labels = [
        torch.randint(outputs, (episodes, count), generator=draw) for count in (steps, queries)
    ]
    images = [
        torch.rand(episodes, count, inputs, generator=draw, dtype=torch.float64).to(dtype)
        for count in (steps, queries)
    ]
    return EpisodeBatch(images[0], labels[0], images[1], labels[1])


def random_problem(
    terms,
    *,
    feedback="fixed",
    widths=(6, 5, 4, 3),
    activation="softplus:10",
    per_layer=False,
    steps=7,
    episodes=2,
    queries=4,
    size=0.03,
    seed=0,
    dtype=torch.float64,
):
    """Return a problem with random weights, tasks and coefficients of about `size`."""
    learner = Learner.on_stack(FullyConnected(tuple(widths), activation), feedback, tuple(terms))
    shape = (learner.sites, len(terms)) if per_layer else (len(terms),)
    theta = size * normal(*shape, seed=seed + 1)
    # Drawn in float64 whatever the dtype, so that precisions can be compared.
    state = learner.draw(episodes, seeded(seed), torch.float64)
    state = state.to(dtype)
    batch = random_batch(
        widths[0],
        widths[-1],
        steps=steps,
        episodes=episodes,
        queries=queries,
        seed=seed,
        dtype=dtype,
    )
    return Problem(learner, theta.to(dtype), state, batch)


# Prints what the fused kernel computes, in float32, to the bit.
KERNEL = """
import torch
from support import FORWARD, random_problem
from metaplast.engines.fused import FusedEngine
widths = (64, 170, 100, 10)
problem = random_problem(FORWARD, widths=widths, steps=100, size=1e-3, dtype=torch.float32)
outcome = FusedEngine().run(problem)
learned = outcome.final.weights[1]
numbers = torch.cat([outcome.loss, outcome.theta_gradient.flatten(), learned.flatten()])
print(numbers.numpy().tobytes().hex())
"""


def begin(learner, batch, generator):
    """Return the state from which a learner begins a batch, in the batch's precision."""
    return learner.begin(batch.episodes, batch.initial, generator, batch.support_x.dtype)


def matrices_of(state):
    """Return all the matrices of a state: the forward ones, then the backward ones."""
    return list(state.matrices.values())


class Stop(Observer):
    """Interrupts a run after some outer steps."""

    def __init__(self, after):
        self.left = after

    def record(self, loop, record):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def essence(result):
    """Return everything in a result that must not depend on interruptions."""
    tests = {name: (e.score.tolist(), e.loss.tolist()) for name, e in result.heldout.items()}
    return result.rule, result.searched, result.scale, result.history, tests, result.divergences


class Clouds:
    """A sampler of easy tasks: in each episode, one Gaussian cloud for each class."""

    def __init__(self, inputs=6, outputs=3, steps=6, queries=6):
        self.inputs, self.outputs, self.steps, self.queries = inputs, outputs, steps, queries

    def sample(self, episodes, generator):
        centres = torch.rand(episodes, self.outputs, self.inputs, generator=generator)
        parts = []
        for count in (self.steps, self.queries):
            labels = torch.randint(self.outputs, (episodes, count), generator=generator)
            noise = 0.1 * torch.randn(episodes, count, self.inputs, generator=generator)
            chosen = centres.gather(1, labels[..., None].expand(-1, -1, self.inputs))
            parts += [(chosen + noise).double(), labels]
        return EpisodeBatch(*parts)


class Poisoned(Clouds):
    """Easy tasks, except the episodes `bad`, whose images are so bright that learning diverges."""

    def __init__(self, bad, factor=1e200, **options):
        super().__init__(**options)
        self.bad, self.factor = list(bad), factor

    def sample(self, episodes, generator):
        batch = super().sample(episodes, generator)
        batch.support_x[self.bad] *= self.factor
        return batch


def entries(folder):
    """Return the names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def fail_to_write(monkeypatch, name, number):
    """Make every write of a file with this name fail with an error number of the system."""
    real = files._replace

    def replace(path, *arguments):
        if path.name == name:
            raise OSError(number, os.strerror(number))
        real(path, *arguments)

    monkeypatch.setattr(files, "_replace", replace)


def paths_in(data, path=()):
    """Yield the path of every value in a tree of dictionaries, lists and tuples."""
    if path:
        yield path
    if isinstance(data, dict | list | tuple):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from paths_in(value, (*path, key))


def with_value(data, path, value):
    """Return a copy of a tree with another value at a path; tuples on the way become lists."""
    data = copy.deepcopy(data)
    target = data
    for key in path[:-1]:
        if isinstance(target[key], tuple):
            target[key] = list(target[key])
        target = target[key]
    target[path[-1]] = value
    return data


def without(data, path):
    """Return a copy of a tree of dictionaries and lists without the value at a path."""
    data = copy.deepcopy(data)
    target = data
    for key in path[:-1]:
        target = target[key]
    del target[path[-1]]
    return data


def refusal(function, *arguments, **options):
    """Check that a call is refused in one sentence; return the sentence."""
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    assert_is_one_sentence(caught.value)
    return str(caught.value)


def assert_close(actual, expected, tolerance=1e-9):
    """Compare to a tolerance relative to the largest number compared, or absolute below 1."""
    assert actual.shape == expected.shape
    assert torch.isfinite(expected).all()
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    worst = float((actual - expected).abs().max()) if expected.numel() else 0.0
    assert worst <= tolerance * scale, f"off by {worst:.3g}, {scale=:.3g}"


def assert_is_one_sentence(error: UserError):
    """Check that an error can be shown to a user as it is."""
    text = str(error)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    assert ". " not in text.rstrip(".")

"""Task sets of learn2learn (Arnold et al. 2020, arXiv:2008.12284), as sources of episodes."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from episodes.sampler import support_and_queries, uniform
from episodes.storage import DAMAGE, data_root, reason
from metaplast.base.errors import UserError, require, unknown_name
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.request import EpisodeRequest
from metaplast.tasks.source import EpisodeSource, EpisodeSplit


class TaskSet(Protocol):
    """The parts of learn2learn's Taskset (formerly TaskDataset) that we use."""

    num_tasks: int

    def __getitem__(self, index: int, /) -> Any:
        """Return the images and labels of one task."""


@dataclass(frozen=True, eq=False)
class TaskSetSampler:
    """Turns tasks into episodes: the first shots of each class are support, the rest are queries.

    learn2learn draws from the global generators of Python, NumPy and torch. During a draw they are
    seeded from the generator given to `sample`; their states are restored afterwards.

    Attributes:
        tasks: each task holds shots + queries images of each of ways classes.
        request: the sizes; labels are always remapped, as in learn2learn's benchmarks.
    """

    tasks: TaskSet
    request: EpisodeRequest

    def sample(self, episodes: int, generator: torch.Generator) -> EpisodeBatch:
        """Return `episodes` episodes.

        Raises:
            UserError: if a task does not have shots + queries images of each of ways classes.
        """
        drawn = [self._task(generator) for _ in range(episodes)]
        images = torch.stack([x for x, _ in drawn]).to(self.request.device, self.request.dtype)
        given = torch.stack([y for _, y in drawn]).to(self.request.device)
        index, label = self._arranged(given, generator)
        support, support_y, query, query_y = support_and_queries(
            index, label, self.request.shots, generator
        )
        row = torch.arange(episodes, dtype=torch.int64, device=self.request.device)[:, None]
        return EpisodeBatch(images[row, support], support_y, images[row, query], query_y)

    def _task(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return images [image, pixel] and labels [image] of one task."""
        seed = int(
            torch.randint(
                2**31, (), generator=generator, dtype=torch.int64, device=generator.device
            )
        )
        number = self.tasks.num_tasks
        index = 0 if number == -1 else seed % number
        # A finite task set draws each task once and keeps it, so a task may depend only on its
        # index, never on the order in which tasks are first used.
        with global_seed(seed if number == -1 else self.request.seed + index):
            task = self.tasks[index]
        try:
            images, labels = (torch.as_tensor(part, device="cpu") for part in task)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"a task must be a pair of images and labels, got {type(task).__name__} "
                f"({reason(error)}); end its transforms with LoadData."
            ) from error
        wanted = self.request.ways * (self.request.shots + self.request.queries)
        require(
            images.ndim >= 2 and labels.shape == (wanted,) and len(images) == wanted,
            f"a task must have ways × (shots + queries) = {wanted} images and labels, got shapes "
            f"{tuple(images.shape)} and {tuple(labels.shape)}; give the task set as many ways and "
            f"samples.",
        )
        return images.flatten(1), labels.long()

    def _arranged(self, given: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return positions in the task, class by class, and new labels: [episode, way, image] each.

        The images of a class are in random order, and so are the numbers of the classes.
        """
        ways = self.request.ways
        noise = uniform(tuple(given.shape), generator, given.device).double()
        index = (given + noise).argsort(dim=1)
        sorted_labels = given.gather(1, index).view(len(given), ways, -1)
        index = index.view(len(given), ways, -1)
        first, last = sorted_labels[:, :, 0], sorted_labels[:, :, -1]
        even = bool((first == last).all() and (first[:, 1:] != last[:, :-1]).all())
        require(
            even,
            f"a task must have {index.shape[2]} images of each of {ways} classes, got other "
            f"numbers; use NWays and KShots with these numbers.",
        )
        number = uniform((len(given), ways), generator, given.device).argsort(dim=1)
        return index, number[:, :, None].expand_as(index)


@dataclass(frozen=True, eq=False)
class TaskSetSource(EpisodeSource):
    """Episodes of two task sets, which define their own split.

    Attributes:
        load: returns the task sets for meta-training and for the held-out test.
        held_out: what the two do not share.
    """

    name: str
    summary: str
    load: Callable[[EpisodeRequest], tuple[TaskSet, TaskSet]]
    held_out: Literal["classes", "images"] = "classes"
    shots: int = 10
    aliases: tuple[str, ...] = ()
    is_default: bool = False

    def split(self, request: EpisodeRequest) -> EpisodeSplit:
        """Return samplers over the two task sets.

        Raises:
            UserError: if the task sets cannot be loaded, or do not fit the request.
        """
        require(
            request.held_out in ("auto", self.held_out),
            f"{self.name} has its own split, which holds out {self.held_out}, but you asked for "
            f"held-out {request.held_out}; leave that choice at auto.",
        )
        train, test = (TaskSetSampler(tasks, request) for tasks in self.load(request))
        # Draw one task from each, so that a task that does not fit is found before the run.
        seed = torch.Generator().manual_seed(request.seed)
        pixels = {sampler.sample(1, seed).support_x.shape[2] for sampler in (train, test)}
        require(
            len(pixels) == 1,
            f"{self.name} must have images of one size, got {sorted(pixels)} pixels in "
            f"meta-training and test; resize them.",
        )
        name = f"{self.name}:{request.argument}" if request.argument else self.name
        return EpisodeSplit(
            train=train,
            test=test,
            held_out=self.held_out,
            inputs=pixels.pop(),
            outputs=request.ways,
            description=f"{name}: task sets of {request.ways} classes with labels remapped; the "
            f"test task set has {self.held_out} held out",
            name=name,
        )


def from_task_sets(
    train: TaskSet,
    test: TaskSet,
    *,
    name: str = "task sets",
    held_out: Literal["classes", "images"] = "classes",
) -> EpisodeSource:
    """Return a source over two task sets of learn2learn.

    Args:
        train: the task set for meta-training; each task has shots + queries images of each of ways
            classes.
        test: the task set for the held-out test, with tasks of the same form.
        name: what messages and descriptions call the task sets.
        held_out: what the two task sets do not share; this is not checked.
    """
    return TaskSetSource(name, "task sets of your own", lambda _: (train, test), held_out)


@contextlib.contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch, and restore them at the end."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _learn2learn() -> ModuleType:
    try:
        # gym, a dependency, prints a notice to standard error when imported.
        with contextlib.redirect_stderr(io.StringIO()):
            import learn2learn
    except ImportError as error:
        raise UserError(
            f"learn2learn task sets need the extra 'learn2learn', which is not installed "
            f"({reason(error)}); run `uv sync --extra learn2learn`, which needs a C compiler."
        ) from error
    return learn2learn  # type: ignore[no-any-return]


def _benchmark(request: EpisodeRequest) -> tuple[TaskSet, TaskSet]:
    """Return learn2learn's benchmark task sets named `request.argument`."""
    benchmarks = _learn2learn().vision.benchmarks
    known = list(benchmarks.list_tasksets())
    if request.argument not in known:
        raise unknown_name("learn2learn task set", request.argument, known)
    samples = request.shots + request.queries
    root = data_root(request)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with global_seed(request.seed):
            sets = benchmarks.get_tasksets(
                request.argument,
                train_ways=request.ways,
                train_samples=samples,
                test_ways=request.ways,
                test_samples=samples,
                root=str(root),
            )
    except (ImportError, *DAMAGE) as error:
        raise UserError(
            f"learn2learn could not load {request.argument!r} from {str(root)!r} "
            f"({reason(error)}); put the data there as learn2learn expects it."
        ) from error
    for tasks in (sets.train, sets.test):
        _check_sizes(tasks, request)
        _keep_to_own_classes(tasks)
    return sets.train, sets.test


def _check_sizes(tasks: Any, request: EpisodeRequest) -> None:
    """Check that the data of `tasks` have enough classes and images."""
    members = tasks.dataset.labels_to_indices
    has = min(len(indices) for indices in members.values())
    needed = request.shots + request.queries
    require(
        len(members) >= request.ways,
        f"learn2learn:{request.argument} has {len(members)} classes on one side of its split, but "
        f"--ways asks for {request.ways}; give --ways {len(members)} or less.",
    )
    require(
        has >= needed,
        f"learn2learn:{request.argument} has {has} images of a class, but --shots {request.shots} "
        f"and --queries {request.queries} take {needed}; make them at most {has} together.",
    )


def _keep_to_own_classes(tasks: Any) -> None:
    """Make `tasks` draw only from the classes of its own data.

    In learn2learn 0.2.0, the transforms of the omniglot benchmark draw from the classes of the
    whole data set, so its train, validation and test task sets share all classes.
    """
    for transform in tasks.task_transforms:
        if hasattr(transform, "filter_labels"):
            transform.filter_labels = list(tasks.dataset.labels)


LEARN2LEARN = TaskSetSource(
    name="learn2learn",
    summary="learn2learn's benchmark task sets, e.g. learn2learn:omniglot (extra learn2learn)",
    load=_benchmark,
)

"""Hold out a part of a pool for the test: whole classes, or images of every class.

Samples with numbers as targets count as one class, whose "images" are held out.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from episodes.pool import LabelledPool
from episodes.sampler import PoolSampler
from episodes.scaling import scaled
from metaplast.base.errors import require
from metaplast.tasks.request import EpisodeRequest, StreamRequest
from metaplast.tasks.source import EpisodeSplit

#: "auto" holds out classes if there are at least this many classes per way. With fewer, one side
#: might have only one or two possible episodes.
CLASSES_PER_WAY = 4

#: One part out of this many is held out.
PARTS = 4


def split_pool(name: str, pool: LabelledPool, request: EpisodeRequest) -> EpisodeSplit:
    """Return samplers over two parts of `pool` that share no class or no image.

    The parts are decided by `request.seed`, or by the data set if it names its test classes.

    Args:
        name: the source, for messages.
        pool: all images.
        request: the user's request.

    Raises:
        UserError: if there are too few classes for the ways, or too few images of a class for
            shots + queries, on either side.
    """
    generator = torch.Generator().manual_seed(request.seed)
    require_ways(name, pool, request)
    held_out: Literal["classes", "images"]
    if _holds_out_classes(pool, request):
        held_out, is_test = "classes", _of_classes(name, pool, request, generator)
    else:
        held_out, is_test = "images", _of_images(name, pool, request, generator)
    pool = scaled(pool, ~is_test, request.dtype)
    on_device = pool.to(request.device)
    train, test = (
        PoolSampler.over(on_device, side.nonzero()[:, 0].to(request.device), request)
        for side in (~is_test, is_test)
    )
    return EpisodeSplit(
        train=train,
        test=test,
        held_out=held_out,
        inputs=pool.inputs,
        outputs=pool.outputs if request.labels == "global" else request.ways,
        description=_describe(name, pool, held_out, train, test),
        name=name,
        targets=pool.kind,
        timing=pool.timing,
        digest=pool.digest,
    )


def require_ways(name: str, pool: LabelledPool, request: EpisodeRequest | StreamRequest) -> None:
    """Check that a request does not ask for more classes than the data have.

    Args:
        name: the source, for messages.
        pool: all samples.
        request: the request of episodes or of a stream.

    Raises:
        UserError: if the request asks for more classes than the data have, or asks for classes
            although targets are not classes.
    """
    if pool.targets is None:
        require(
            request.ways is None or request.ways <= pool.classes,
            f"{name} has {pool.classes} classes, but --ways asks for {request.ways}; "
            f"give --ways {pool.classes} or less.",
        )
        return
    has = "numbers as targets" if pool.kind == "numbers" else "a target at each step"
    asked = {f"--ways {request.ways}": request.ways != type(request).ways}
    if isinstance(request, EpisodeRequest):
        # The option may be the default of a command, so "leave it out" would not help.
        require(
            request.labels == "global",
            f"{name} has {has} and no classes, so labels cannot be remapped; give --labels global.",
        )
        asked["--held-out classes"] = request.held_out == "classes"
    for option, given in asked.items():
        require(
            not given,
            f"{name} has {has} and no classes, so {option} means nothing; leave it out.",
        )


def _holds_out_classes(pool: LabelledPool, request: EpisodeRequest) -> bool:
    if pool.targets is not None:
        return False
    if request.held_out != "auto":
        return request.held_out == "classes"
    if pool.held_out_classes is not None:
        return True
    return pool.classes >= CLASSES_PER_WAY * request.ways


def _of_classes(
    name: str, pool: LabelledPool, request: EpisodeRequest, generator: torch.Generator
) -> Tensor:
    """Return which images are of held-out classes: [image] bool, on the CPU."""
    test = pool.held_out_classes
    if test is None:
        number = max(request.ways, pool.classes // PARTS)
        test = torch.randperm(pool.classes, generator=generator, dtype=torch.int64, device="cpu")[
            :number
        ]
    left = pool.classes - len(test)
    require(
        min(len(test), left) >= request.ways,
        f"{name} has {pool.classes} classes, too few to hold out classes with --ways "
        f"{request.ways} (meta-training would have {max(left, 0)} and the test {len(test)}); "
        f"give fewer --ways, or hold out images.",
    )
    _require_images(name, pool, request, sides=1)
    return torch.isin(pool.labels.cpu(), test.cpu())


def _of_images(
    name: str, pool: LabelledPool, request: EpisodeRequest, generator: torch.Generator
) -> Tensor:
    """Return which images are held out, of every class: [image] bool, on the CPU.

    One image in `PARTS`, or more or fewer, so that either side has enough for an episode.
    """
    _require_images(name, pool, request, sides=2)
    needed = request.shots + request.queries
    labels = pool.labels.cpu()
    counts = torch.bincount(labels)
    number = torch.minimum((counts // PARTS).clamp(min=needed), counts - needed)
    return places_in_class(labels, generator) < number[labels]


def places_in_class(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image's rank, from 0, in a random order of the images of its class: [image]."""
    # Sort by class, ties in the order of a random shuffle.
    order = torch.randperm(len(labels), generator=generator, dtype=torch.int64, device="cpu")
    order = order[labels[order].argsort(stable=True)]
    counts = torch.bincount(labels)
    place = torch.empty_like(labels)
    ranks = torch.arange(len(labels), dtype=torch.int64, device="cpu")
    place[order] = ranks - (counts.cumsum(0) - counts)[labels[order]]
    return place


def _require_images(name: str, pool: LabelledPool, request: EpisodeRequest, sides: int) -> None:
    """Check that the smallest class has enough images for an episode on each of its sides.

    A held-out class is on one side; if images are held out, every class is on both.
    """
    counts = torch.bincount(pool.labels)
    smallest, has = int(counts.argmin()), int(counts.min())
    needed = request.shots + request.queries
    each = " for meta-training and as many for the test" if sides == 2 else ""
    what = f"{pool.words[0]}s of class {smallest}" if pool.targets is None else "samples"
    most = has // sides
    mend = f"make them at most {most} together" if most > 1 else f"give at least {2 * sides}"
    require(
        has >= sides * needed,
        f"{name} has {has} {what}, but --shots {request.shots} and --queries "
        f"{request.queries} take {needed}{each}; {mend}.",
    )


def _describe(
    name: str, pool: LabelledPool, held_out: str, train: PoolSampler, test: PoolSampler
) -> str:
    whole = f"{name}: {pool.sizes}"
    if pool.targets is not None:
        parts = f"{len(test.members)} samples held out, {len(train.members)} for meta-training"
    elif held_out == "classes":
        parts = f"{len(test.classes)} classes held out, {len(train.classes)} for meta-training"
    else:
        parts = (
            f"all classes in meta-training, {len(test.members)} {pool.words[0]}s held out, "
            f"{len(train.members)} for meta-training"
        )
    return "; ".join(part for part in (whole, parts, pool.note) if part)

"""An estimate of whether a computation fits into memory, made before anything is allocated."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import torch

from metaplast.base.errors import require
from metaplast.engines.fused_recurrent.served import history_bytes as recurrent_history_bytes
from metaplast.engines.fused_recurrent.served import is_recurrent
from metaplast.systems.learner import Learner

_UNITS = ("B", "kB", "MB", "GB", "TB")
_CGROUPS = Path("/sys/fs/cgroup")


def episode_bytes(
    learner: Learner,
    engine: str,
    steps: int,
    queries: int,
    dtype: torch.dtype,
    *,
    gradient: bool = True,
) -> int:
    """Return roughly how many bytes unrolling one episode takes, erring on the low side.

    Args:
        learner: the system and the rule's terms.
        engine: the engine's name.
        steps: number of support examples.
        queries: number of query examples.
        dtype: the dtype of all numbers.
        gradient: whether there is a backward sweep.
    """
    system = learner.system
    moving = learner.moving
    weights = sum(a * b for name, (a, b) in system.shapes.items() if name in moving)
    weights += sum(system.carried.values())
    fixed = sum(a * b for name, (a, b) in system.shapes.items() if name not in moving)
    # The initial and the learned weights; below, the adjoint and what the backward sweep needs.
    copies = 2
    if gradient and engine in ("batched", "compiled"):
        length = max(1, 2 * math.isqrt(steps))
        copies += 2 + math.ceil(steps / length)
        if system.limits:
            # The engine keeps the states of a segment, and masks of the weights that the projection
            # left unchanged, but no copy of the adjoint.
            copies += math.ceil(min(length, steps) * (1 + 1 / dtype.itemsize)) - 1
    elif gradient and engine == "reference":
        copies += steps
    frames = 1 if system.sequence is None else system.sequence.frames
    numbers = copies * weights + fixed + (steps + queries) * frames * system.inputs
    return numbers * dtype.itemsize


def history_bytes(learner: Learner, engine: str, steps: int, dtype: torch.dtype) -> int:
    """Return roughly how many bytes the fused engine keeps of an episode for its backward sweep.

    This errs on the low side. Of a stack it counts the traces only; of a recurrent network it
    counts signals and matrices. The engine keeps them only while it unrolls an episode, so they are
    counted for one episode, not for the whole batch. The result is 0 for the other engines.
    """
    if engine == "fused" and is_recurrent(learner.system):
        return recurrent_history_bytes(learner, steps, dtype.itemsize)
    numbers = steps * sum(learner.system.carried.values()) if engine == "fused" else 0
    return numbers * dtype.itemsize


def require_memory(
    each: int,
    count: int,
    flag: str,
    system: str,
    device: torch.device,
    *,
    at_once: int = 1,
    kept: int = 0,
) -> None:
    """Refuse a computation that needs more memory than is free.

    If the system does not report how much is free, nothing is refused.

    Args:
        each: bytes of one episode or network.
        count: how many of them are in memory at the same time.
        flag: the option that sets `count`.
        system: description of the system that learns.
        device: the device that computes.
        at_once: how many processes share the memory.
        kept: bytes that each process needs in addition, independent of `count`.

    Raises:
        UserError: if it does not fit.
    """
    room = available_bytes(device)
    need = (each * count + kept) * at_once
    processes = f", in {at_once} processes," if at_once > 1 else ""
    lower = "--processes, " if at_once > 1 else ""
    require(
        room is None or need <= room,
        f"{flag} {count} with the network {system}{processes} needs about {_spell(need)} of "
        f"memory, but only {_spell(room or 0)} is free; lower {lower}{flag}, --hidden or the "
        f"number of images.",
    )


def available_bytes(device: torch.device | None = None) -> int | None:
    """Return how many bytes are free on a device (default: CPU); None if that is not reported."""
    if device is not None and device.type == "cuda":
        spare = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + spare
    found = [_machine_bytes(), *_group_bytes()]
    return min((room for room in found if room is not None), default=None)


def _machine_bytes() -> int | None:
    """Return the machine's free memory, including swap."""
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
        rows = (line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        sizes = {key: int(text.split()[0]) for key, text in rows}
        return 1024 * (sizes["MemAvailable"] + sizes.get("SwapFree", 0))
    return None


def _group_bytes(root: Path = _CGROUPS, groups: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Return the free memory of each control group of this process, such as in containers."""
    rooms = []
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = groups.read_text().splitlines()
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            base, most, used = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, most, used = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        place = base / path.strip("/")
        # In a container, a process may see its own group as the root. Parent groups have limits.
        for folder in (base, *(p for p in (place, *place.parents) if base in p.parents)):
            with contextlib.suppress(OSError, ValueError):
                limit = int((folder / most).read_text())
                taken = int((folder / used).read_text()) - _cache_bytes(folder)
                rooms.append(max(0, limit - max(0, taken)))
    return rooms


def _cache_bytes(folder: Path) -> int:
    """Return how many bytes of a group's memory are file cache, which is freed when needed."""
    with contextlib.suppress(OSError, ValueError):
        rows = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int(rows.get("total_inactive_file", rows.get("inactive_file", 0)))
    return 0


def _spell(count: float) -> str:
    """Return a number of bytes as text."""
    power = min(4, max(0, math.floor(math.log10(max(count, 1))) // 3))
    number = count / 1000**power
    return f"{number:,.0f} TB" if number >= 1000 else f"{number:.3g} {_UNITS[power]}"

"""Devices by name, and whether this machine has them."""

from __future__ import annotations

import torch

from metaplast.base.errors import require


def parse_device(text: str) -> torch.device:
    """Return the device named by `--device`; this machine need not have it.

    Raises:
        UserError: if computations cannot run on a device of this kind.
    """
    try:
        device = torch.device(text)
    except RuntimeError:
        device = torch.device("meta")
    # torch keeps only 8 bits of the number, so it would read cuda:256 as cuda:0.
    require(
        device.type in ("cpu", "cuda") and str(device) == text,
        f"--device must be cpu, cuda or cuda:NUMBER with a number below 128, got {text!r}.",
    )
    require(
        device.type == "cuda" or not device.index,
        f"--device cpu takes no number, as there is one CPU device, got {text!r}; write cpu.",
    )
    return device


def require_device(device: torch.device) -> None:
    """Check that this machine has a device.

    Raises:
        UserError: if the device is absent.
    """
    if device.type != "cuda":
        return
    require(
        torch.cuda.is_available(),
        "--device cuda needs a CUDA device, but none was found; use --device cpu, or a machine "
        "that has one.",
    )
    count = torch.cuda.device_count()
    require(
        (device.index or 0) < count,
        f"--device {device} was not found; the last CUDA device is cuda:{count - 1}.",
    )


def find_device(text: str) -> torch.device:
    """Return the device named by `--device`, after checking that this machine has it.

    Raises:
        UserError: if the device is unknown or absent.
    """
    device = parse_device(text)
    require_device(device)
    return device

"""Save and load the state of a run: plain data only, written completely or not at all."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from metaplast.base.errors import UserError, require
from metaplast.base.files import write_atomically
from metaplast.base.paths import AnyPath, as_path

FORMAT = "metaplast-checkpoint"
VERSION = 1


def save_checkpoint(path: AnyPath, data: dict[str, Any]) -> None:
    """Write tensors, numbers, strings and containers of them, atomically."""
    payload = {"format": FORMAT, "version": VERSION, "data": data}
    write_atomically(as_path(path), lambda stream: torch.save(payload, stream))


def load_checkpoint(path: AnyPath) -> dict[str, Any]:
    """Return what `save_checkpoint` wrote; code in the file is never run.

    Raises:
        UserError: if the file is missing, damaged, of another version or not a checkpoint.
    """
    path = as_path(path)
    payload = _read(path)
    require(
        isinstance(payload, dict) and payload.get("format") == FORMAT,
        f"{path} is not a metaplast checkpoint; give --resume the folder of a run.",
    )
    require(
        type(payload.get("version")) is int and payload["version"] == VERSION,
        f"{path} has checkpoint version {str(payload.get('version'))[:40]!r}, this metaplast reads "
        f"version {VERSION}; install the metaplast that wrote it.",
    )
    data = payload.get("data")
    if not isinstance(data, dict):
        raise UserError(f"{path} is a damaged checkpoint; start the run again.")
    return data


def _read(path: Path) -> Any:
    """Return what torch reads from a file, after its checksums were verified."""
    try:
        require(
            path.is_file() or not path.exists(),
            f"cannot read a checkpoint from {path}: it is not a regular file; give --resume the "
            f"folder of a run.",
        )
        _verify(path)
        # weights_only refuses everything except tensors and plain containers.
        return torch.load(path, weights_only=True)
    except OSError as error:
        raise UserError(
            f"cannot read a checkpoint from {path}: {error.strerror}; give --resume the folder "
            f"of an interrupted run."
        ) from None
    except UserError:
        raise
    except Exception:
        # A damaged pickle can raise almost any exception.
        raise UserError(
            f"{path} is not a metaplast checkpoint, or is damaged; start the run again."
        ) from None


def _verify(path: Path) -> None:
    """Verify the checksums, which torch writes but does not verify."""
    with zipfile.ZipFile(path) as archive:
        # torch does not compress its files: a compressed one is not ours, and could expand
        # without limit.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise zipfile.BadZipFile(path.name)
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(damaged)

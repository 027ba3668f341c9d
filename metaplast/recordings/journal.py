"""A journal of the fits of an inference, so that an interrupted one continues where it stopped.

An inference is a sequence of fits that depends only on the recordings and the settings. Each fit is
written as a line. A resumed inference reads the lines one after another instead of fitting again,
and gets the same numbers to the last bit.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import UserError, require
from metaplast.base.files import read_json, write_json
from metaplast.base.paths import AnyPath, as_path
from metaplast.recordings.pieces import Parameters
from metaplast.recordings.recording import Recording

RUN, FITS = "unfinished.json", "unfinished_fits.jsonl"


class Journal:
    """The fits of an inference, in order. This base class keeps nothing.

    `recall` returns a kept fit only if it is the next one and has the right key.
    """

    def recall(self, key: str) -> dict[str, Any] | None:
        """Return the next fit if it has this key, else None."""
        return None

    def keep(self, key: str, fit: Mapping[str, Any]) -> None:
        """Keep a fit as the next one."""


class KeptJournal(Journal):
    """A journal in a folder.

    Args:
        folder: the folder with its files.
    """

    def __init__(self, folder: AnyPath) -> None:
        self._folder = as_path(folder, "folder")
        self._lines = _whole_lines(self._folder / FITS)
        self._next = 0

    @classmethod
    def begin(
        cls, folder: AnyPath, paths: Sequence[str], recordings: Sequence[Recording],
        settings: Mapping[str, Any],
    ) -> KeptJournal:  # fmt: skip
        """Return the journal of a new inference.

        Args:
            folder: the folder for its files.
            paths: paths of the recordings.
            recordings: the recordings in these files.
            settings: the settings of the inference.

        Raises:
            FileError: if nothing can be written there.
        """
        found = [
            {"path": str(Path(path).resolve()), "digest": digest(recording)}
            for path, recording in zip(paths, recordings, strict=True)
        ]
        folder = as_path(folder, "folder")
        write_json(folder / RUN, {"recordings": found, "settings": dict(settings)})
        return cls(folder)

    def recall(self, key: str) -> dict[str, Any] | None:
        """Return the next fit if it has this key; else drop it and all later ones."""
        if self._next >= len(self._lines):
            return None
        line = self._lines[self._next]
        if line["key"] != key:
            self._lines = self._lines[: self._next]
            text = "".join(json.dumps(line) + "\n" for line in self._lines)
            (self._folder / FITS).write_text(text, "utf-8")
            return None
        self._next += 1
        found: dict[str, Any] = line["fit"]
        return found

    def keep(self, key: str, fit: Mapping[str, Any]) -> None:
        """Write a fit as the next line."""
        line = {"key": key, "fit": dict(fit)}
        with (self._folder / FITS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        self._lines.append(line)
        self._next = len(self._lines)

    def remove(self) -> None:
        """Delete the files: the inference is complete, or has failed."""
        for name in (RUN, FITS):
            (self._folder / name).unlink(missing_ok=True)


def unfinished(folder: AnyPath) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Return the paths and digests of the recordings of an interrupted inference, and its settings.

    Raises:
        UserError: if the folder holds none.
    """
    folder = as_path(folder, "folder")
    require(
        (folder / RUN).is_file(),
        f"{folder} holds no interrupted inference; give the folder of one that was interrupted.",
    )
    data = read_json(folder / RUN, "an interrupted inference")
    try:
        found = [(str(each["path"]), str(each["digest"])) for each in data["recordings"]]
        return found, dict(data["settings"])
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{folder / RUN} is damaged; begin the inference again without --resume."
        ) from None


def digest(recording: Recording) -> str:
    """Return a digest of what a recording holds."""
    found = hashlib.sha256()
    for part in (
        recording.inputs, recording.observed, recording.reward, recording.plastic,
        recording.weights, recording.seen_weights, np.array(recording.lengths),
        np.array(recording.readout), np.array(recording.continues),
    ):  # fmt: skip
        found.update(b"none" if part is None else str(part.shape).encode() + part.tobytes())
    return found.hexdigest()


def plain(at: Parameters) -> dict[str, Any]:
    """Return parameters as plain data, without rounding."""
    return {
        "theta": [float(value) for value in at.theta], "scale": float(at.scale),
        "gain": float(at.gain), "log_taus": list(at.log_taus),
        "shift": {str(animal): _text(values) for animal, values in dict(at.shift).items()},
    }  # fmt: skip


def parameters(data: Mapping[str, Any]) -> Parameters:
    """Return the parameters in plain data."""
    shift = {int(animal): _numbers(values) for animal, values in data["shift"].items()}
    theta = np.array(data["theta"], dtype=float)
    return Parameters(theta, data["scale"], data["gain"], shift, tuple(data["log_taus"]))


def _text(values: Numbers) -> list[Any]:
    exact = np.ascontiguousarray(values, dtype="<f8")
    return [list(exact.shape), base64.b64encode(exact.tobytes()).decode("ascii")]


def _numbers(text: Sequence[Any]) -> Numbers:
    return np.frombuffer(base64.b64decode(text[1]), dtype="<f8").reshape(text[0]).astype(float)


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a file, and cut off an incomplete last line."""
    if not path.is_file():
        return []
    raw, found, end = path.read_bytes(), [], 0
    for line in raw.splitlines(keepends=True):
        try:
            data = json.loads(line) if line.endswith(b"\n") else None
            if not (isinstance(data, dict) and isinstance(data["key"], str) and data["fit"]):
                break
        except (ValueError, KeyError):
            break
        found.append(data)
        end += len(line)
    if end < len(raw):
        path.write_bytes(raw[:end])
    return found

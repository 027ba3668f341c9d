"""A journal of the fits of an inference, so that an interrupted one continues where it stopped.

An inference is a sequence of fits that depends only on the recordings and the settings. Each fit is
written as a line. A resumed inference reads these lines, in order, instead of fitting again,
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
from metaplast.base.plain_data import DataError, check, entry
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
            text = "".join(_line(each["key"], each["fit"]) for each in self._lines)
            (self._folder / FITS).write_text(text, "utf-8")
            return None
        self._next += 1
        found: dict[str, Any] = line["fit"]
        return found

    def keep(self, key: str, fit: Mapping[str, Any]) -> None:
        """Write a fit as the next line."""
        with (self._folder / FITS).open("a", encoding="utf-8") as stream:
            stream.write(_line(key, fit))
        self._lines.append({"key": key, "fit": dict(fit)})
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
        known = entry(data, "recordings", list, "the file")
        check(bool(known), "the file names no recordings")
        found = [
            (entry(each, "path", str, "a recording"), entry(each, "digest", str, "a recording"))
            for each in known
        ]
        settings = entry(data, "settings", dict, "the file")
        check(bool(settings), "the file has no settings")
    except DataError:
        raise UserError(
            f"{folder / RUN} is damaged; begin the inference again without --resume."
        ) from None
    return found, settings


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


def _line(key: str, fit: Mapping[str, Any]) -> str:
    """Return a fit as a line that includes a digest of its content."""
    line = {"key": key, "fit": dict(fit)}
    return json.dumps(line | {"digest": _digest(line)}) + "\n"


def _digest(line: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(line).encode()).hexdigest()[:16]


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Return the complete, undamaged lines of a file, and cut off the rest of the file.

    The fits that are cut off run again. So do those in files from versions without digests.
    """
    if not path.is_file():
        return []
    raw, found, end = path.read_bytes(), [], 0
    for line in raw.splitlines(keepends=True):
        try:
            data = json.loads(line) if line.endswith(b"\n") else None
            if not isinstance(data, dict) or data.pop("digest") != _digest(data):
                break
        except (ValueError, KeyError, RecursionError):
            break
        found.append(data)
        end += len(line)
    if end < len(raw):
        path.write_bytes(raw[:end])
    return found

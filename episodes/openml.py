"""Data sets of OpenML (openml.org), which scikit-learn downloads and keeps."""

from __future__ import annotations

import http.client
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from episodes.arrays import as_inputs
from episodes.from_file import FileSource, Samples, require_numbers
from episodes.storage import DAMAGE, data_root, reason
from metaplast.base.errors import UserError, require, shown
from metaplast.tasks.request import DataRequest


class OpenMLSource(FileSource):
    """Reads a table of OpenML, by name or number; categorical inputs are encoded as numbers."""

    name = "openml"
    summary = (
        "a data set of OpenML: openml:NAME or openml:NUMBER, version=NUMBER, target=COLUMN; "
        "downloaded once into the folder of data sets"
    )
    own = ("target", "version")
    example = "openml:NAME"

    def label(self, text: str) -> str:
        """Return what messages and descriptions call the data."""
        return f"{self.name}:{text}"

    def read(
        self, text: str, label: str, settings: Mapping[str, str], request: DataRequest
    ) -> Samples:
        """Return the data set; see `FileSource.read`."""
        found = _fetch(text, label, settings, request)
        inputs = as_inputs(label, found.data).numpy()
        names = list(map(str, found.feature_names))
        targets = np.asarray(found.target) if found.target is not None else np.zeros(0)
        require(
            targets.size > 0,
            f"{label} has no target of its own; write {self.name}:{text},target=COLUMN with one of "
            f"its columns.",
        )
        require_numbers(label, inputs, names, lambda row: f"row {row + 1}")
        details: Mapping[str, Any] = found.details
        learned = " and ".join(map(str, found.target_names))
        note = f"version {details['version']}, number {details['id']}, target {learned}"
        return Samples(inputs, targets, note)


def _fetch(text: str, label: str, settings: Mapping[str, str], request: DataRequest) -> Any:
    """Return what scikit-learn makes of the data set."""
    from sklearn.datasets import fetch_openml

    version = settings.get("version", "active")
    require(
        version == "active" or (version.isascii() and version.isdecimal() and len(version) < 9),
        f"{label}: version must be a whole number, got {shown(version)}; leave it out for the "
        f"active one.",
    )
    is_number = text.isascii() and text.isdecimal()
    require(
        not (is_number and "version" in settings),
        f"{label}: a number already means one version; leave version={version} out.",
    )
    chosen: dict[str, Any] = {"data_id": int(text)} if is_number else {"name": text}
    if not is_number:
        chosen["version"] = version if version == "active" else int(version)
    if "target" in settings:
        chosen["target_column"] = settings["target"]
    try:
        with warnings.catch_warnings():
            # The warnings are about several versions; the description says which one was read.
            warnings.simplefilter("ignore")
            return fetch_openml(
                **chosen, as_frame=False, parser="liac-arff", data_home=data_root(request)
            )
    except (*DAMAGE, KeyError, http.client.HTTPException) as error:
        raise UserError(
            f"{label} could not be read from OpenML ({reason(error).replace('. ', '; ')[:200]}); "
            f"check its name, its columns and the network."
        ) from None


OPENML = OpenMLSource()

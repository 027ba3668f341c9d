"""Where data sets are stored, how they are downloaded, and a cache for slow conversions."""

from __future__ import annotations

import contextlib
import http.client
import lzma
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from metaplast.base.errors import UserError, require
from metaplast.tasks.request import DataRequest

#: Environment variable with the folder of data sets, used if `--data-root` is not given.
DATA_VARIABLE = "METAPLAST_DATA"

#: Exceptions that readers raise if a compressed file is damaged, encrypted or in another format.
DAMAGE = (
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

Arrays = dict[str, npt.NDArray[np.generic]]


def cache_folder() -> Path:
    """Return the user's cache folder for metaplast; it need not exist.

    Raises:
        UserError: if the user has no home folder and no other folder is set.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        return caches.expanduser() / "metaplast"
    except RuntimeError:
        raise UserError(
            f"there is no home folder for {str(caches)!r}; set XDG_CACHE_HOME to a folder for data "
            f"that can be downloaded again."
        ) from None


def data_root(request: DataRequest) -> Path:
    """Return the folder of data sets: `--data-root`, METAPLAST_DATA, or one in the cache.

    Raises:
        UserError: if the folder was named by the user and does not exist.
    """
    variable = os.environ.get(DATA_VARIABLE)
    if request.data_root is not None:
        root, named_by = request.data_root, "--data-root"
    elif variable:
        root, named_by = Path(variable), DATA_VARIABLE
    else:
        return cache_folder() / "data"
    with contextlib.suppress(RuntimeError):  # ~NAME for an unknown user.
        root = root.expanduser()
    require(
        root.is_dir(),
        f"the data root {str(root)!r} (from {named_by}) is not a folder; make it, or name the "
        f"folder that has the data.",
    )
    return root


def download(fetch: Callable[[Path], object], root: Path, expected: str) -> None:
    """Have `fetch` download a data set into an empty folder, then move its files under `root`.

    Files under `root` are therefore complete even after an interrupted download. If a folder of the
    data set already exists, the new files are moved into it one by one.

    Args:
        fetch: downloads the data set into the folder that it is given.
        root: the data root.
        expected: path under `root` of the missing file, for messages.

    Raises:
        UserError: if the download fails; the message says where to put which files.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as folder:
            fetch(Path(folder))
            _merge(Path(folder), root)
    except (*DAMAGE, http.client.HTTPException) as error:
        raise UserError(
            f"expected {str(root / expected)!r}, which is missing and could not be downloaded "
            f"({reason(error)}); put it there, or give --data-root the folder that has it."
        ) from error


def check_file(file: Path) -> bool:
    """Return whether there is a regular file at `file`.

    Raises:
        UserError: if there is anything else: a folder, a pipe, a broken link.
    """
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        require(
            not file.is_symlink(),
            f"{str(file)!r} is a link to a file that is not there; fix or remove it.",
        )
        return False
    except OSError as error:
        raise unreadable(file, error) from None
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
    require(
        stat.S_ISREG(mode), f"expected a file at {str(file)!r}, which is {kind}; remove it first."
    )
    return True


def unreadable(file: Path, error: OSError) -> UserError:
    """Return the error for a file that the system refuses to read."""
    return UserError(f"cannot read {str(file)!r}: {error.strerror}; check the file.")


def _merge(source: Path, target: Path) -> None:
    """Move the contents of one folder to another; a new folder is moved as a whole."""
    for path in sorted(source.iterdir()):
        place = target / path.name
        if path.is_dir() and place.is_dir():
            _merge(path, place)
        else:
            path.replace(place)


def reason(error: Exception) -> str:
    """Return the message of `error` in one line."""
    return " ".join(str(error).split()).rstrip(".:") or type(error).__name__


def prepared(name: str, kinds: Mapping[str, npt.DTypeLike], make: Callable[[], Arrays]) -> Arrays:
    """Return the arrays that `make` returns, cached under `name` in the cache folder.

    The name must change with everything the arrays are made from. A cache file that cannot be read,
    or holds other names or types than `kinds`, is replaced. If it cannot be written, the arrays are
    returned anyway. Neither case is reported, because the arrays are correct.
    """
    file = cache_folder() / "prepared" / f"{name}.npz"
    try:
        # Opened here, because NumPy leaves a damaged file open.
        with file.open("rb") as content, np.load(content, allow_pickle=False) as kept:
            arrays = dict(kept)
            if kinds == {key: array.dtype for key, array in arrays.items()}:
                return arrays
    except DAMAGE:
        pass
    arrays = make()
    with contextlib.suppress(OSError):
        _write(file, arrays)
    return arrays


def _write(file: Path, arrays: Arrays) -> None:
    """Write `arrays` so that at any moment `file` is either absent or complete."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        draft = Path(folder) / file.name
        np.savez(draft, allow_pickle=False, **arrays)
        draft.replace(file)

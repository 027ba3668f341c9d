"""The exceptions that reading a damaged file raises, and the error message for the user."""

from __future__ import annotations

import zipfile
from zlib import error as zlib_error

from metaplast.base.errors import UserError
from metaplast.base.paths import AnyPath

DAMAGE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib_error)


def damaged(path: AnyPath, what: str, error: Exception) -> UserError:
    """Return the error for a file that is damaged, or is not `what`."""
    reason = " ".join(str(error).split()).rstrip(".").replace(". ", "; ")[:120]
    return UserError(f"{path} is not {what} or is damaged ({reason}); check the file.")

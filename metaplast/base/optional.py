"""Optional packages, loaded only where they are used; a missing one gives an error."""

from __future__ import annotations

import importlib
from types import ModuleType

from metaplast.base.errors import UserError


def optional(package: str, extra: str, needs: str, otherwise: str = "") -> ModuleType:
    """Return an optional package.

    Args:
        package: its name.
        extra: what to install, as written for pip: "metaplast[ray]".
        needs: what needs the package, with the verb: "HDF5 files need".
        otherwise: what works without the package: "use .npz files"; empty if nothing does.

    Raises:
        UserError: if the package is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        alternative = f", or {otherwise}" if otherwise else ""
        raise UserError(
            f"{needs} the package {package}, which is not installed; install {extra}{alternative}."
        ) from None

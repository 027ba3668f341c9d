"""The configuration in a run folder: written at the start, compared when the run is resumed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metaplast.base.errors import UserError, require
from metaplast.base.files import read_json_in, write_json
from metaplast.base.paths import AnyPath, as_path
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.own import Own, read_own
from metaplast.discovery.result import versions
from metaplast.tasks.digest import SHOWN, plain_digest

CONFIG = "config.json"

# The location of the data may change: a run can be resumed after the data were moved.
_PLACES = ("data_root",)


def write_config(folder: AnyPath, config: DiscoveryConfig, own: Own | None = None) -> None:
    """Write a configuration into a run folder.

    Args:
        folder: the folder of the run.
        config: the configuration.
        own: data and terms passed from Python; None if not known yet.
    """
    data: dict[str, Any] = {"config": config.to_json(), "versions": versions()}
    if own is not None:
        data["own"] = own.to_json()
    write_json(as_path(folder, "folder") / CONFIG, data)


@dataclass(frozen=True)
class Asked:
    """The configuration recorded in a run folder.

    Attributes:
        config: the configuration.
        own: data and terms passed from Python; None in folders of earlier versions.
        identity: both as plain data, as in checkpoints.
    """

    config: DiscoveryConfig
    own: Own | None
    identity: Mapping[str, Any]


def identity_of(config: DiscoveryConfig, own: Any) -> dict[str, Any]:
    """Return the record as plain data, for a checkpoint."""
    plain: dict[str, Any] = json.loads(json.dumps({"config": config.to_json(), "own": own}))
    return plain


def read_config(folder: AnyPath) -> Asked:
    """Return the configuration recorded in a run folder.

    Raises:
        UserError: if there is no run, or the file is damaged or foreign.
    """
    path = as_path(folder, "folder") / CONFIG
    give = "--resume the folder of a run"
    data = read_json_in(path.parent, CONFIG, "the configuration of a run", "run", give)
    require(
        isinstance(data, dict) and isinstance(data.get("config"), dict),
        f"{path} is not the configuration of a metaplast run; start the run again.",
    )
    try:
        config = DiscoveryConfig.from_json(data["config"])
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")[:200]
        raise UserError(
            f"{path} is not the configuration of a metaplast run ({reason}); start the run again."
        ) from None
    own = read_own(data, path)
    return Asked(config, own, identity_of(config, data.get("own")))


def begin_folder(
    folder: AnyPath, config: DiscoveryConfig, own: Own, *, begun: bool
) -> Mapping[str, Any]:
    """Create the folder of a new run, write its configuration, and return it as plain data.

    Args:
        folder: the folder of the run.
        config: the configuration.
        own: data and terms passed from Python.
        begun: whether the folder has a checkpoint, which a new run would overwrite.

    Raises:
        UserError: if the folder already contains a run, or cannot be written.
    """
    folder, identity = as_path(folder, "folder"), identity_of(config, own.to_json())
    if (folder / CONFIG).exists():
        asked = read_config(folder)
        same = asked.config == config and (asked.own is None or asked.identity == identity)
        require(
            same,
            f"{folder} holds a run with other settings, data or terms; give another folder.",
        )
    require(
        not begun,
        f"{folder} already holds a run; continue it with "
        f"Discovery.resume({str(folder)!r}), or give another folder.",
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_config(folder, config, own)
    except OSError as error:
        raise UserError(
            f"cannot write to the folder {folder}: {error.strerror}; give a writable one."
        ) from None
    return identity


def config_digest(config: DiscoveryConfig) -> str:
    """Return a digest of the settings that decide the outcome of a run."""
    data = {k: v for k, v in config.to_json().items() if k not in _PLACES}
    return plain_digest("configuration", data)[:SHOWN]


def warn_of_earlier(folder: AnyPath) -> None:
    """Warn that a checkpoint of an earlier version does not contain its configuration."""
    warnings.warn(
        f"the checkpoint in {folder} was written by an earlier version and does not contain the "
        f"configuration, so metaplast cannot tell whether {CONFIG} was changed since.",
        stacklevel=5,
    )


def require_identity(begun: object, now: Mapping[str, Any], folder: AnyPath) -> None:
    """Check that a run is resumed with the configuration with which it started.

    Args:
        begun: the configuration in its checkpoint; None in checkpoints of earlier versions.
        now: the configuration in its folder.
        folder: the folder of the run.

    Raises:
        UserError: if the two differ; the message says how.
    """
    if begun is None and now["own"] is None:
        return
    if not isinstance(begun, dict) or not isinstance(begun.get("config"), dict):
        raise UserError(
            f"the checkpoint in {folder} does not say which run it belongs to; start the run again."
        )
    before, after = begun["config"], now["config"]
    changes = [
        f"{name} was {before.get(name)!r:.60}, is {after.get(name)!r:.60}"
        for name in sorted(before.keys() | after.keys(), key=str)
        if before.get(name) != after.get(name) and name not in _PLACES
    ]
    if begun.get("own") != now["own"]:
        changes.append("own data and terms")
    path = as_path(folder, "folder") / CONFIG
    require(
        not changes,
        f"{path} was changed after the run started ({'; '.join(changes)}); change it back, "
        f"or start a new run.",
    )

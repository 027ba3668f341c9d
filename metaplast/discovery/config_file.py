"""Settings of a discovery from a user's file: TOML, or the config.json of a run."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from metaplast.base.errors import UserError, require, unknown_name
from metaplast.base.files import read_json
from metaplast.base.paths import AnyPath, as_path
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run_config import CONFIG, read_config

# Larger files are rejected: they cannot be files of settings.
_MOST_BYTES = 10**6


def read_settings(path: AnyPath, more: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the settings in a file, by field name.

    Args:
        path: the path of a TOML file, of a config.json, or of a run folder. In TOML, settings have
            the names of the options, with _ or -, at the top or in tables of any name.
        more: names that are allowed besides the fields of `DiscoveryConfig`.

    Raises:
        UserError: if there is no such file, its format is wrong, or it names an unknown setting.
            Values are checked only if they come from a run.
    """
    path = as_path(path, "the file of settings")
    path = path / CONFIG if path.is_dir() else path
    found = _from_run(path) if path.suffix.lower() == ".json" else _from_toml(path)
    known = {field.name for field in fields(DiscoveryConfig)} | set(more)
    for name in found:
        if name not in known:
            raise unknown_name(f"setting in {path}", name, known)
    return found


def _from_run(path: Path) -> dict[str, Any]:
    """Return all settings of a run, from its configuration."""
    data = read_json(path, "settings")
    require(
        isinstance(data, dict),
        f"{path} must hold settings by name; give a TOML file, or the {CONFIG} of a run.",
    )
    if not isinstance(data.get("config"), dict):
        return _by_field(data, path)
    if path.name == CONFIG:
        own = read_config(path.parent).own
        require(
            own is None or (own.data is None and not own.terms),
            f"the run in {path.parent} used data or terms that were passed from Python; repeat it "
            f"from Python, with discover(…).",
        )
    return asdict(DiscoveryConfig.from_json(data["config"]))


def _from_toml(path: Path) -> dict[str, Any]:
    try:
        require(
            path.is_file(),
            f"there is no file of settings {str(path)!r}; check the path.",
        )
        require(
            path.stat().st_size <= _MOST_BYTES,
            f"{path} is too large for a file of settings; check the path.",
        )
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"{path} is not TOML ({why}); write lines such as episodes = 200."
        ) from None
    return _by_field(data, path)


def _by_field(data: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return settings by field name, including those in tables."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        inner = _by_field(value, path) if isinstance(value, Mapping) else {_field(name): value}
        for key, each in inner.items():
            require(key not in found, f"{path} gives {key} twice; leave one of them out.")
            found[key] = each
    return found


def _field(name: str) -> str:
    return name.replace("-", "_")


def settings_toml(config: DiscoveryConfig, groups: Mapping[str, str]) -> str:
    """Return all settings as TOML, except those without a value.

    Args:
        config: the settings.
        groups: the table in which each field is written.
    """
    tables: dict[str, list[str]] = {}
    for name, group in groups.items():
        value = getattr(config, name)
        if value is not None:
            tables.setdefault(group, []).append(f"{name} = {_toml(value)}")
    parts = ["\n".join([f"[{group}]", *lines]) for group, lines in tables.items()]
    return "\n\n".join(parts) + "\n"


def _toml(value: Any) -> str:
    """Return a value as TOML, which has the syntax of JSON for text, numbers and lists."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON does not escape DEL, which TOML forbids.
    return json.dumps(str(value)).replace("\x7f", "\\u007f")

"""The options --config and --save-config: settings of a discovery in a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import tyro

from metaplast.base.errors import UserError
from metaplast.base.files import write_text
from metaplast.base.settings import Settings
from metaplast.commands._groups import options_of
from metaplast.commands._options import parse_early
from metaplast.commands._places import require_writable
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.config_file import read_settings, settings_toml

Options = TypeVar("Options")


@dataclass(frozen=True)
class ConfigFile(Settings):
    """The option --config, which is read first because it changes the defaults of others."""

    GROUP: ClassVar[str] = "run"

    config_file: Annotated[Path | None, tyro.conf.arg(name="config")] = None
    """File with settings (TOML, or the config.json of a run), or the run's folder; options given
    explicitly override it."""


def settings_in_file(
    arguments: Sequence[str], prog: str, more: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the settings in the file given by --config, or none without that option.

    Args:
        arguments: words of the command line.
        prog: name of the command.
        more: names that are allowed besides the settings of a discovery.

    Raises:
        UserError: if the file is missing, damaged or names an unknown setting.
    """
    path = parse_early(ConfigFile, arguments, prog).config_file
    return {} if path is None else read_settings(path, more)


def made_from_file(
    kind: type[Options], arguments: Sequence[str], prog: str, **values: Any
) -> Options:
    """Return an instance of a command's options; an error names the file given by --config.

    Raises:
        UserError: if a value does not pass the checks.
    """
    try:
        return kind(**values)
    except UserError as error:
        path = parse_early(ConfigFile, arguments, prog).config_file
        if path is None:
            raise
        raise UserError(f"{path}: {error}") from None


def save_config(path: Path, config: DiscoveryConfig) -> None:
    """Write all settings to a TOML file, grouped as in the help.

    Raises:
        UserError: if the file cannot be written.
    """
    require_writable("--save-config", path)
    names = {field.name for field in fields(DiscoveryConfig)}
    groups = {each.name: each.group for each in options_of(DiscoveryConfig) if each.name in names}
    write_text(path, settings_toml(config, groups))
    print(f"Settings in {path}; use them with --config {path}.", file=sys.stderr)

"""One call from candidates to a rule: `discover`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from metaplast.base.device import require_device
from metaplast.base.errors import UserError, require, shown, unknown_name
from metaplast.base.paths import as_path
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.result import Result
from metaplast.discovery.run import Discovery
from metaplast.discovery.run_config import CONFIG
from metaplast.systems.kind import DEFAULT
from metaplast.tasks.library import source_of
from metaplast.tasks.source import EpisodeSource
from metaplast.terms.term import Term


def discover(config: DiscoveryConfig | None = None, **keywords: Any) -> Result:
    """Discover a rule: `print(discover(terms="bio", episodes=200).rule)` shows its equation.

    Args:
        config: the configuration; None for the defaults.
        keywords: fields of `DiscoveryConfig`, which take precedence over those of `config`;
            observers and checkpoint_seconds, as for `Discovery`; and

            - folder: the folder of the run, created if needed. It will contain the configuration,
              checkpoint, history, rule and summary. If it already contains this discovery, the
              discovery continues.
            - data: your own data, (inputs [sample, …], targets [sample]) or a map-style data set of
              such pairs; see `episodes.from_tensors`, which can also scale them.
            - split: episodes to use instead of those of the configured source, or a source of
              episodes, such as `episodes.from_tensors` returns.
            - terms: names of terms, as in `DiscoveryConfig`; your own terms; or a list of both.

    Raises:
        UserError: if a keyword is unknown, or a value, the data or the folder is invalid.
    """
    from metaplast.discovery.run_folder import RunFiles

    config, options = _sorted_out(config, keywords)
    folder = options.pop("folder", None)
    if folder is None:
        return Discovery(config, **options).run()
    folder = as_path(folder, "folder")
    options["observers"] = (*options.pop("observers", ()), RunFiles(folder))
    if (folder / CONFIG).exists():
        return Discovery.in_folder(config, folder, **options).run()
    return Discovery(config, folder=folder, **options).run()


_OPTIONS = ("folder", "observers", "checkpoint_seconds", "data", "split")


def _sorted_out(
    config: DiscoveryConfig | None, keywords: Mapping[str, Any]
) -> tuple[DiscoveryConfig, dict[str, Any]]:
    """Return the configuration, and the keywords of `discover` that are not settings."""
    if not isinstance(config, DiscoveryConfig | None):
        raise UserError(
            f"discover takes a DiscoveryConfig or keywords, got {shown(config)}; write "
            f"discover(terms='bio', episodes=200), for instance."
        )
    known = {field.name for field in fields(DiscoveryConfig)}
    for name in keywords:
        if name not in known and name not in _OPTIONS:
            raise unknown_name("keyword of discover", name, {*known, *_OPTIONS})
    settings = {name: value for name, value in keywords.items() if name in known}
    options = {name: value for name, value in keywords.items() if name in _OPTIONS}
    given = settings.get("terms")
    given = [given] if isinstance(given, Term) else given
    if isinstance(given, list | tuple):
        options["terms"] = tuple(term for term in given if isinstance(term, Term))
        settings["terms"] = [name for name in given if not isinstance(name, Term)]
        if not settings["terms"] and options["terms"]:
            del settings["terms"]
    if config is None:
        config = DiscoveryConfig.for_system(settings.pop("system", DEFAULT), **settings)
    else:
        config = replace(config, **settings)
    data = options.pop("data", None)
    if data is not None:
        require(
            options.get("split") is None and "dataset" not in settings,
            "discover takes only one of data, split and dataset; leave out the others.",
        )
        options["split"] = source_of(data)
    if isinstance(options.get("split"), EpisodeSource):
        require_device(config.torch_device)
        options["split"] = options["split"].split(config.request)
    return config, options

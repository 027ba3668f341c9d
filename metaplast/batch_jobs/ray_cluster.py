"""A Ray cluster, which runs many calls in any order, or the episodes of one discovery."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from metaplast.base.errors import UserError
from metaplast.base.optional import optional
from metaplast.base.threads import torch_on_one_thread
from metaplast.base.trouble import explained
from metaplast.base.workers import Workers

# How often Ray repeats a call whose worker has died.
_RETRIES = 2


def require_ray() -> None:
    """Raise `UserError` if Ray is not installed."""
    optional("ray", "metaplast[ray]", "--ray needs")


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Yield the package ray, connected to a cluster until the context ends.

    Args:
        address: the address of the cluster; "auto" finds one, "local" starts one on this machine.

    Raises:
        UserError: if Ray is not installed, or there is no cluster.
    """
    require_ray()
    import ray

    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"no Ray cluster was found at {address!r} ({type(error).__name__}); start one with "
            f"`ray start --head`, or omit --ray."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def on_cluster(
    guard: Callable[..., dict[str, Any]],
    function: Callable[..., dict[str, Any]],
    calls: Mapping[str, tuple[Any, ...]],
    address: str,
    tick: Callable[[], None],
    seconds: float,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each call's name and answer as it ends; a call that failed has an "error".

    Args:
        guard: calls the function, and turns an error into an answer.
        function: a module-level function.
        calls: arguments of each call, by name.
        address: the address of the cluster.
        tick: called about every `seconds` while calls run.
        seconds: time between two ticks.

    Raises:
        UserError: if Ray is not installed, or there is no cluster.
    """
    with connected(address) as ray:
        remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(guard)
        waiting = {remote.remote(function, *call): name for name, call in calls.items()}
        try:
            while waiting:
                finished, _ = ray.wait(list(waiting), num_returns=1, timeout=seconds)
                tick()
                for reference in finished:
                    name = waiting.pop(reference)
                    try:
                        yield name, ray.get(reference)
                    except ray.exceptions.RayError as error:
                        yield name, {"error": f"Ray: {type(error).__name__}"}
        finally:
            for reference in waiting:
                ray.cancel(reference)


class RayWorkers(Workers):
    """The workers of a cluster to which this process is connected.

    Args:
        ray: the package, as `connected` yields it.
    """

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(alone)

    def map(self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return the function's results, in the order of the calls; see `Workers.map`."""
        references = [self._remote.remote(function, *call) for call in calls]
        try:
            answers = self._ray.get(references)
        except self._ray.exceptions.RayError as error:
            raise UserError(
                f"the Ray cluster lost a call and could not repeat it ({type(error).__name__}); "
                f"finished steps are kept, so continue with --resume."
            ) from None
        except BaseException:
            for reference in references:
                self._ray.cancel(reference)
            raise
        for _, sentence in answers:
            if sentence is not None:
                raise UserError(sentence)
        return [result for result, _ in answers]


def alone(function: Callable[..., Any], *call: Any) -> tuple[Any, str | None]:
    """Return a function's result, computed on one torch thread, or the sentence of its error."""
    try:
        with torch_on_one_thread():
            return function(*call), None
    except Exception as error:
        return None, explained(error)


@contextmanager
def ray_workers(address: str | None) -> Iterator[Workers | None]:
    """Yield the workers of the cluster at an address; None without an address."""
    if address is None:
        yield None
        return
    with connected(address) as ray:
        yield RayWorkers(ray)

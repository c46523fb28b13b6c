# ruff: noqa: SLF001 - it wraps what Ray keeps to itself
"""A killed HAProxy is back within milliseconds, and nobody is refused meanwhile.

Serve 2.60 asks its HAProxy each ten seconds whether it is well, gives it up after the third time without an answer and
only then starts another: half a minute in which a node refuses every request. Its manager, the Ray actor that starts
HAProxy, could know at once, because HAProxy is its child. Here the manager is taught to start it again itself, with the
listening sockets that it kept open (see :mod:`attrition.cluster.listeners`). What is lost is what the killed process
had in flight.

It is taught in every worker process by :func:`revive_haproxy`, before it imports Serve; Ray calls that by the variable
``__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR``. On a Ray that starts HAProxy in another way nothing is changed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
from functools import wraps
from importlib.abc import Loader, MetaPathFinder
from typing import TYPE_CHECKING, Any

from attrition.cluster.listeners import Listeners
from attrition.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

logger = logging.getLogger(__name__)

MODULE = "ray.serve._private.haproxy"
"""Ray's module that starts HAProxy."""

_NEEDED = ("_start_and_wait_for_haproxy", "_generate_config_file_internal", "stop", "reload")
_PAUSE_SECONDS = 0.5
_KEPT = ".kept"
"""Suffix of the socket at which a successor asks, beside the control socket."""


def revive_haproxy() -> None:
    """Have this process, should it be HAProxy's manager, start a killed HAProxy again; harmless when repeated."""
    if MODULE in sys.modules:
        teach(sys.modules[MODULE])
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


def teach(module: ModuleType) -> None:
    """Wrap what the manager starts and stops HAProxy with."""
    api = getattr(module, "HAProxyApi", None)
    if not all(callable(getattr(api, name, None)) for name in _NEEDED):
        logger.warning("this Ray starts HAProxy in another way; a killed one is back when Serve notices")
        return
    assert api is not None
    if hasattr(api, "attrition_start"):
        return
    start, stop = api._start_and_wait_for_haproxy, api.stop
    api.attrition_start = start

    @wraps(start)
    async def start_and_watch(self: Any, *args: Any, **options: Any) -> Any:
        process = await start(self, *args, **options)
        revival = vars(self).setdefault("attrition_revival", _Revival(self))
        await revival.watch(process)
        return process

    @wraps(stop)
    async def stop_for_good(self: Any) -> None:
        revival = vars(self).get("attrition_revival")
        if revival is not None:
            revival.end()
        await stop(self)

    api._start_and_wait_for_haproxy = start_and_watch
    api.stop = stop_for_good


class _Revival:
    """Watches the HAProxy of one manager, in its event loop.

    Parameters
    ----------
    api
        The manager's ``HAProxyApi``.
    """

    def __init__(self, api: Any) -> None:
        self._api = api
        self._ended = False
        self._listeners: Listeners | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def watch(self, process: Any) -> None:
        """Keep the sockets of a process that serves now, and start another when it ends unasked."""
        try:
            listeners = await asyncio.to_thread(Listeners.of, self._api.cfg.socket_path)
        except PlatformError as error:  # it may have been killed just now; another can bind the ports again
            logger.warning("%s", error)
            listeners = None
        self._keep(listeners)
        if self._ended:
            self._keep(None)
        task = asyncio.create_task(self._revive(process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def end(self) -> None:
        """Start none any more, and refuse connections from now on."""
        self._ended = True
        self._keep(None)

    def _keep(self, listeners: Listeners | None) -> None:
        if self._listeners is not None:
            self._listeners.close()
        self._listeners = listeners

    async def _revive(self, process: Any) -> None:
        code = await process.wait()
        if code == 0:  # it was told to, by its successor in a reload
            return
        while self._api._proc is process and not self._ended:
            logger.warning("HAProxy ended with %s; it is started again", code)
            configs = self._api.backend_configs
            try:
                self._api._generate_config_file_internal()
                self._api._proc = await self._start()
                if self._api.backend_configs is not configs and not self._ended:
                    await self._api.reload()  # Serve's own has failed meanwhile
            except Exception:  # whatever it is, a node without HAProxy serves nobody
                logger.exception("HAProxy could not be started again")
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _start(self) -> Any:
        if self._listeners is None:
            return await self._api._start_and_wait_for_haproxy()
        listeners, self._listeners = self._listeners, None
        path = self._api.cfg.socket_path + _KEPT
        try:
            with listeners.offered(path):
                return await self._api._start_and_wait_for_haproxy("-x", path)
        finally:
            listeners.close()


class _AfterImport(MetaPathFinder):
    """Teaches Ray's module as soon as it is imported, without importing it."""

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _TeachingLoader(spec.loader)
        return spec


class _TeachingLoader(Loader):
    """The loader of a module, followed by :func:`teach`."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        teach(module)

"""A variant in a deployment of its own: ``import_path: attrition.serving.placed:build``, and the line that leads to it.

The replica holds the verified version and turns rows into probabilities, nothing else: validation, assignment, the
prediction log and the metrics stay with the gateway that calls it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from attrition.errors import ConfigError
from attrition.serving import row_batches
from attrition.serving.batcher import Batcher
from attrition.serving.logs import join_serve
from attrition.serving.placement import PLACED, application_name
from attrition.settings import config_faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from attrition.serving.batcher import Send
    from attrition.serving.traffic import Variant


class PlacedArgs(BaseModel):
    """What a placed variant serves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    """Folder or URI of the exported bundle."""
    manifest_sha256: str
    """Digest of its manifest."""


class PlacedReplica:
    """What Serve runs; it does not start when the bundle is not the one that was announced.

    Parameters
    ----------
    bundle, manifest_sha256
        As of :class:`PlacedArgs`.
    """

    def __init__(self, bundle: str, manifest_sha256: str) -> None:
        from attrition.registry.bundle import load_bundle

        join_serve()
        self._scorer = load_bundle(bundle, manifest_sha256).scorer

    async def score(self, message: bytes) -> bytes:
        """The answer to a message of :mod:`~attrition.serving.row_batches`."""
        return row_batches.score(self._scorer, message)


def build(args: dict[str, Any]) -> Any:
    """The application, for Serve's declarative deployment.

    Parameters
    ----------
    args
        Fields of :class:`PlacedArgs`.

    Raises
    ------
    ConfigError
        A key is missing or unknown.
    """
    try:
        checked = PlacedArgs.model_validate(args)
    except ValidationError as error:
        raise ConfigError(config_faults("args", error, PlacedArgs)) from error

    from ray import serve

    return serve.deployment(name=PLACED)(PlacedReplica).bind(checked.bundle, checked.manifest_sha256)


def reach(application: str, variant: Variant, observe: Callable[[bool, int], None]) -> Batcher:
    """The line from this replica to the deployment of a variant, whether that runs already or not.

    Parameters
    ----------
    application
        Name of the gateway's application.
    observe
        As of :class:`~attrition.serving.batcher.Batcher`.
    """
    options = variant.options
    return Batcher(
        _sender(application_name(application, variant)),
        name=f"version {variant.version}",
        max_batch_records=options.max_batch_records,
        max_waiting_records=options.max_waiting_records,
        timeout_seconds=options.timeout_seconds,
        observe=observe,
    )


def _sender(application: str) -> Send:
    from ray import serve
    from ray.exceptions import RayActorError

    # does not ask the controller, so a replica of the gateway starts whatever became of the deployment
    handle = serve.get_deployment_handle(PLACED, application, _check_exists=False)

    score: Any = None

    async def once(message: bytes) -> bytes:
        nonlocal score
        # not before: it starts the handle's router, which belongs to this event loop
        score = score or handle.score
        response = score.remote(message)
        try:
            answer: bytes = await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        return answer

    async def send(message: bytes) -> bytes:
        try:
            return await once(message)
        except RayActorError:
            # the replica died with the batch; to score it again elsewhere changes nothing
            return await once(message)

    return send

"""The explainer's deployment: answers ``POST /v1/explain``, away from the replicas that score.

The gateway sends it the parsed request and the variants that are served, so it has no configuration of traffic of its
own, holds nothing that must be confirmed, and may be scaled to zero. An explainer of a version is loaded, verified like
a scoring replica's, when it is first asked for. What a replica imports is what scoring needs: explanations are computed
from the version's declared files, without shap and without scikit-learn.
"""

from __future__ import annotations

import asyncio
import logging
import math
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from attrition.errors import IntegrityError, NotFound, PlatformError
from attrition.serving.identifiers import made_at
from attrition.serving.logs import join_serve
from attrition.serving.protocols import explain, problems
from attrition.serving.records import RecordCodec
from attrition.serving.spool_search import find_in_spools
from attrition.serving.traffic import Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from attrition.data.predictions import LoggedPrediction
    from attrition.scoring.explainer import Explainer
    from attrition.serving.protocols.explain import ExplainRequest
    from attrition.serving.protocols.problems import Problem

    Find = Callable[[str], LoggedPrediction | None]

logger = logging.getLogger(__name__)

_YOUNG = timedelta(minutes=2)
"""Age below which a prediction that is not found may still be on its way from another node."""
_CLOCK_SKEW = timedelta(minutes=1)


class ExplainOptions(BaseModel):
    """How explanations are served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_versions: Annotated[int, Field(ge=1, le=100)] = 4
    """Versions that an explainer keeps in memory: about ten times their size on disk for a large forest."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 25.0
    """The gateway waits so long for an answer, also while a first replica starts; below the request timeout."""
    retry_after_seconds: Annotated[int, Field(ge=1, le=600)] = 5
    """What a caller is asked to wait when a prediction is not recorded yet, or the explainer is busy."""


class LoggedPredictions:
    """Where logged predictions are looked up: the spools of this node first, then the table.

    Parameters
    ----------
    spool
        Folder of this node's spools.
    tables
        Folder or URI of the tables.
    """

    def __init__(self, spool: Path, tables: str) -> None:
        from attrition.data.predictions import PredictionTable

        self._spool = spool
        self._table = PredictionTable(tables)

    def find(self, prediction_id: str) -> LoggedPrediction | None:
        """The prediction, or None.

        Raises
        ------
        PlatformError
            The table cannot be read.
        """
        return find_in_spools(self._spool, prediction_id) or self._table.find(prediction_id, made_at(prediction_id))


class _Ready(NamedTuple):
    """A version that explains, and the decoder of its records."""

    explainer: Explainer
    codec: RecordCodec


class ExplainerService:
    """Answers explanation requests; may be asked by several threads at once.

    Parameters
    ----------
    options
        Of the deployment.
    load
        Loads and verifies the explainer of a bundle, by folder and digest.
    find
        Looks a prediction up; None when predictions are not recorded.
    """

    def __init__(self, options: ExplainOptions, load: Callable[[str, str], Explainer], find: Find | None) -> None:
        self._options = options
        self._find = find

        def ready(bundle: str, manifest_sha256: str) -> _Ready:
            explainer = load(bundle, manifest_sha256)
            return _Ready(explainer, RecordCodec(explainer.schema, max_records=1))

        self._ready = lru_cache(maxsize=options.max_versions)(ready)

    def answer(self, request: ExplainRequest, variants: Sequence[Variant], *, now: datetime) -> bytes | Problem:
        """The JSON of the explanation, or the problem that keeps it from being made.

        Parameters
        ----------
        variants
            That are served.
        now
            With a time zone.
        """
        logged = None
        if request.prediction_id:
            found = self._look_up(request.prediction_id, now)
            if isinstance(found, problems.Problem):
                return found
            logged = found
        version = logged.version if logged else request.version
        variant = _variant(variants, version)
        if variant is None:
            return explain.version_not_served(version, sorted({variant.version for variant in variants}))
        try:
            ready = self._ready(variant.bundle, variant.manifest_sha256)
        except NotFound:
            return explain.not_explainable(variant.version)
        values = _recorded(ready, logged) if logged else _decoded(ready, request.record)
        if isinstance(values, problems.Problem):
            return values
        served = logged.probability if logged else None
        try:
            explanation = ready.explainer.explain(values, served=served, prediction_id=request.prediction_id or None)
        except IntegrityError as error:
            logger.error("An explanation of version %s was refused: %s", variant.version, error)  # noqa: TRY400 - no trace
            return explain.does_not_add_up()
        return msgspec.json.encode(explanation.to_dict())

    def _look_up(self, prediction_id: str, now: datetime) -> LoggedPrediction | Problem:
        if self._find is None:
            return explain.not_logged()
        try:
            found = self._find(prediction_id)
        except PlatformError as error:
            logger.warning("A prediction could not be looked up: %s", error)
            return explain.log_unreadable(self._options.retry_after_seconds)
        if found is not None:
            return found
        if -_CLOCK_SKEW < now - made_at(prediction_id) < _YOUNG:
            return explain.not_recorded_yet(self._options.retry_after_seconds)
        return explain.unknown_prediction()


class ExplainerReplica:
    """What Serve runs.

    Parameters
    ----------
    options
        Fields of :class:`ExplainOptions`.
    prediction_log
        Fields of :class:`~attrition.serving.prediction_log.LogConfig`; None: predictions are not recorded.
    """

    def __init__(self, options: dict[str, Any], prediction_log: dict[str, Any] | None) -> None:
        from attrition.registry.bundle import load_explainer
        from attrition.serving.prediction_log import LogConfig

        join_serve()
        find = None
        if prediction_log is not None:
            log = LogConfig.model_validate(prediction_log)
            find = LoggedPredictions(log.spool, log.tables).find
        self._service = ExplainerService(ExplainOptions.model_validate(options), load_explainer, find)

    async def explain(self, request: ExplainRequest, variants: list[dict[str, Any]]) -> bytes | Problem:
        """The answer of one request; called by the gateway through a handle."""
        return await asyncio.to_thread(self._answer, request, variants)

    def _answer(self, request: ExplainRequest, variants: list[dict[str, Any]]) -> bytes | Problem:
        try:
            served = [Variant.model_validate(variant) for variant in variants]
            return self._service.answer(request, served, now=datetime.now(UTC))
        except Exception:  # an error would reach the caller of the handle as Serve's own, with values in its trace
            logger.exception("An explanation failed")
            return problems.internal()


def _variant(variants: Sequence[Variant], version: str) -> Variant | None:
    """The variant of a version, or the one with the largest share of the traffic when none is asked for."""
    if not version:
        return max(variants, key=lambda variant: variant.weight)
    return next((variant for variant in variants if variant.version == version), None)


def _recorded(ready: _Ready, logged: LoggedPrediction) -> list[float] | Problem:
    values = [logged.features.get(name, math.nan) for name in ready.explainer.schema.names]
    # a record without any value is never scored
    return explain.features_removed() if all(map(math.isnan, values)) else values


def _decoded(ready: _Ready, record: bytes) -> list[float] | Problem:
    batch = ready.codec.decode(record)
    if isinstance(batch, problems.Problem):
        return explain.within_record(batch)
    if not batch.single:
        return explain.several_records()
    given = [getattr(batch.records[0], name) for name in ready.explainer.schema.names]
    return [math.nan if value is None else float(value) for value in given]

"""Explanations without an endpoint: the same explainer, its version read from the registry instead of a bundle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from attrition.errors import Fault, InputError, NotFound, UsageError
from attrition.serving.explainer import LoggedPredictions
from attrition.serving.protocols import problems
from attrition.serving.protocols.explain import is_prediction_id
from attrition.serving.records import RecordCodec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrition.evaluation.explanations import Explanation
    from attrition.registry.models import ModelRegistry
    from attrition.settings import Settings


def checked_id(prediction_id: str) -> str:
    """An identifier of a prediction in lower case.

    Raises
    ------
    UsageError
        It has not the form of one; it may be a person's number.
    """
    if not is_prediction_id(prediction_id):
        raise UsageError(Fault("prediction", "the id is no UUID of version 7", "", "take it from a scoring answer"))
    return prediction_id.lower()


def explain_prediction(settings: Settings, registry: ModelRegistry, prediction_id: str) -> Explanation:
    """The explanation of a logged prediction by the registered version that made it.

    Raises
    ------
    UsageError
        The id has not the form of one.
    NotFound
        It is not recorded, its features were removed, or its version cannot be explained.
    IntegrityError
        The registered version is not the one that answered.
    """
    where = "prediction"
    logged = LoggedPredictions(settings.home / "spool", settings.tables).find(checked_id(prediction_id))
    if logged is None:
        remedy = "it may be past its retention, erased, or a few seconds too young on another machine"
        raise NotFound(Fault(where, "no prediction with this id is recorded", "", remedy))
    explainer = registry.load(logged.version).explainer(logged.version)
    values = [logged.features.get(name, math.nan) for name in explainer.schema.names]
    if all(map(math.isnan, values)):
        raise NotFound(Fault(where, "its features were removed by retention", "", "only the probability is kept"))
    return explainer.explain(values, served=logged.probability, prediction_id=logged.prediction_id)


def explain_record(registry: ModelRegistry, record: Mapping[str, float | None], ref: str) -> Explanation:
    """The explanation of a record by a registered version, checked like a scoring request.

    Raises
    ------
    InputError
        Names every field that does not fit the version's features.
    NotFound
        No such version, or it cannot be explained.
    """
    version = registry.resolve(ref).version
    explainer = registry.load(version).explainer(version)
    known = {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in record.items()}
    batch = RecordCodec(explainer.schema, max_records=1).decode(msgspec.json.encode(known))
    if isinstance(batch, problems.Problem):
        raise InputError([Fault(f"record{error.pointer}", error.detail) for error in batch.errors] or batch.detail)
    given = [getattr(batch.records[0], name) for name in explainer.schema.names]
    return explainer.explain([math.nan if value is None else float(value) for value in given])

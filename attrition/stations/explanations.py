"""Explanations of estimates and of versions under guard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrition.errors import UsageError
from attrition.governance.actions import Action

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from attrition.evaluation.explanations import Explanation, GlobalImportance
    from attrition.governance.guard import Guard
    from attrition.registry.models import ModelRegistry
    from attrition.settings import Settings


class Explanations:
    """Why a version estimates what it does; its public methods are the Workspace's own.

    Parameters
    ----------
    settings
        Where the log of predictions is.
    guard
        Of the project.
    registry
        Gives the registry; asked only after the guard.
    """

    def __init__(self, settings: Settings, guard: Guard, registry: Callable[[], ModelRegistry]) -> None:
        self._settings = settings
        self._guard = guard
        self._registry = registry

    def explain(
        self,
        prediction_id: str | None = None,
        *,
        record: Mapping[str, float | None] | None = None,
        version: str | None = None,
    ) -> Explanation:
        """Why a version estimates what it does, for a logged prediction or for a record; needs no endpoint.

        Parameters
        ----------
        prediction_id
            Of an answer; the registered version that gave it explains it.
        record
            Feature → value, instead of an id; what is missing is None or left out.
        version
            Version or alias that explains the record; None is the champion.

        Raises
        ------
        UsageError
            Neither an id nor a record, or both, or a version for a prediction.
        NotFound
            No such prediction or version, or the version was registered without what explanations need.
        InputError
            The record does not fit the version's features.
        """
        from attrition.serving.explaining import checked_id, explain_prediction, explain_record

        by_id = prediction_id is not None and record is None and version is None
        if not by_id and (prediction_id is not None or record is None):
            raise UsageError("explain: give a prediction_id, or a record and if you like a version.")
        subject = "record" if prediction_id is None else f"prediction {checked_id(prediction_id)}"
        with self._guard.acting(Action.EXPLAIN, subject) as entry:
            if prediction_id is not None:
                found = explain_prediction(self._settings, self._registry(), prediction_id)
            else:
                found = explain_record(self._registry(), record or {}, version or "champion")
            entry.model_version = found.model_version
            return found

    def explain_global(self, ref: str = "champion") -> GlobalImportance:
        """What a version (``1.0.0``, ``champion``) or a logged run relies on: Shapley importance on its holdout.

        Raises
        ------
        NotFound
            No such version or run, or it was registered without what explanations need.
        """
        self._guard.require(Action.MODEL_VIEW, f"version {ref}")
        return self._registry().load(ref).importance

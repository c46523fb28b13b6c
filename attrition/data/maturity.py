"""Matured labels: what became of a prediction, once that can be said.

Notation: a prediction made on day *d* speaks about the days *d* to *d + h*, its *horizon* of *h* days. It is

- 1 as soon as the person is known to have left on one of them;
- 0 once the horizon is over, outcomes are complete up to a later day, and no leaving within it is known;
- censored otherwise: the horizon is not over, the record has no person, or the person had left before day *d*.

Leavers mature on the day they leave, stayers only at the end of the horizon. Among the predictions of the last *h*
days the labels that exist are therefore nearly all 1: a rate or a metric must use predictions whose
``horizon_end`` has passed, and no others.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from attrition.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime


def matured_labels(
    predictions: pd.DataFrame, outcomes: pd.DataFrame, *, horizon_days: int, as_of: datetime
) -> pd.DataFrame:
    """Label of each prediction as far as it is known.

    Parameters
    ----------
    predictions : DataFrame
        ``employee_id`` (str or missing) and ``time`` (datetime64 with zone UTC), as
        :meth:`~attrition.data.predictions.PredictionTable.between` returns them.
    outcomes : DataFrame
        ``employee_id`` and ``left_on``, one row per person, as
        :meth:`~attrition.data.outcomes.OutcomeTable.current` returns them for `as_of`.
    horizon_days
        Horizon of the predictions, > 0; that of the version's feature schema.
    as_of
        Moment, with a time zone, up to which outcomes are complete: who is not known to have left by then had not.

    Returns
    -------
    DataFrame of shape (n_predictions, 3), index of `predictions`
        ``label`` (Int8, missing: censored), ``left_on`` (datetime64[us], NaT: not known to have left by `as_of`),
        ``horizon_end`` (datetime64[us], the last day of the horizon).

    Raises
    ------
    UsageError
        `horizon_days` is not positive, or `as_of` has no time zone.
    """
    if horizon_days <= 0:
        raise UsageError(f"horizon_days is {horizon_days}; it must be positive.")
    if as_of.tzinfo is None:
        raise UsageError("as_of has no time zone; give one, UTC for instance.")
    today = np.datetime64(as_of.astimezone(UTC).date(), "us")
    made_on = predictions["time"].dt.tz_convert(None).dt.normalize().to_numpy("datetime64[us]")
    horizon_end = made_on + np.timedelta64(horizon_days, "D")
    persons = predictions["employee_id"]
    left_on = outcomes.set_index("employee_id")["left_on"].reindex(persons).to_numpy("datetime64[us]")
    left_on = np.where(left_on <= today, left_on, np.datetime64("NaT", "us"))  # announced, but not gone yet
    can_tell = persons.notna().to_numpy() & ~(left_on < made_on)
    left = can_tell & (left_on <= horizon_end)
    stayed = can_tell & ~left & (horizon_end < today)
    label = pd.array(np.select([left, stayed], [1.0, 0.0], np.nan), dtype="Int8")
    columns = {"label": label, "left_on": left_on, "horizon_end": horizon_end}
    return pd.DataFrame(columns, index=predictions.index)

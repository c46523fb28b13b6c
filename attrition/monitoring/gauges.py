"""Gauges of monitoring: names, labels and meanings, as the exporter sets them and the alert rules read them.

Ray adds the prefix ``ray_``. They are set by a process that lives on, from stored reports: a gauge of the job that made
the report would vanish with the job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class GaugeSpec:
    """What a gauge says.

    Attributes
    ----------
    description : str
    labels : tuple of str
    """

    description: str
    labels: tuple[str, ...]


GAUGES: Mapping[str, GaugeSpec] = {
    "data_drift_magnitude": GaugeSpec("Distance of a feature from the reference, in PSI.", ("feature_name",)),
    "feature_mean_shift_percent": GaugeSpec("Change of a feature's mean against the reference.", ("feature_name",)),
    "drift_level": GaugeSpec("Verdict of the latest drift run: 0 stable, 1 moderate, 2 major.", ()),
    "drift_window_rows": GaugeSpec("Rows that the latest drift run compared.", ()),
    "drift_run_timestamp_seconds": GaugeSpec("End of the last drift run that completed, seconds since 1970.", ()),
    "drift_run_age_seconds": GaugeSpec("Time since then.", ()),
    "live_drift_magnitude": GaugeSpec("PSI of a feature among the last predictions.", ("feature_name",)),
    "live_mean_shift_percent": GaugeSpec("Change of its mean among the last predictions.", ("feature_name",)),
    "live_drift_level": GaugeSpec("Verdict on the last predictions: 0 stable, 1 moderate, 2 major.", ()),
    "live_rows": GaugeSpec("Predictions in the live view.", ()),
    "realised_auc": GaugeSpec("AUC of the latest period with enough mature labels.", ("model_version",)),
    "realised_auc_high": GaugeSpec("Upper limit of its 95 % interval.", ("model_version",)),
    "estimated_auc": GaugeSpec("CBPE estimate of the AUC, without outcomes.", ("model_version",)),
    "estimated_auc_high": GaugeSpec("Upper limit of its band.", ("model_version",)),
    "admission_auc": GaugeSpec("AUC on the holdout when the version was admitted.", ("model_version",)),
    "table_rows": GaugeSpec("Rows of a table of the project.", ("table",)),
    "monitor_timestamp_seconds": GaugeSpec("When the monitor last read its sources, seconds since 1970.", ()),
    "monitor_failed_sources": GaugeSpec("Sources that it could not read then; their gauges keep their values.", ()),
    "audit_export_timestamp_seconds": GaugeSpec("Until when the audit log is exported, seconds since 1970.", ()),
}
"""By name, without Ray's prefix. What there is no figure for is absent, or NaN when there was one."""

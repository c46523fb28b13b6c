"""Writes Grafana's dashboards from one definition, so that a renamed metric is renamed once.

    python infra/dashboards/generate.py && python kuberay/generate.py    # the second lists the files for kustomize

tests/deploy/test_dashboards.py fails when a file is out of date; tests/integration/test_observability.py asks every
expression of a real Prometheus. What one machine cannot show is marked `unseen`, with the reason.

Variables: ``$application`` (Serve's), ``$version`` (of the model), ``$purpose`` (`serving` or `tuning`, a label that
the PodMonitors set; on one machine there is no such label, and "All" fits that too).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent

APP = 'application=~"$application"'
VERSION = f'{APP},model_version=~"$version"'
PURPOSE = 'purpose=~"$purpose"'
WINDOW = "[$__rate_interval]"

VARIABLES = {
    "application": "label_values(ray_serve_application_status, application)",
    "version": "label_values(ray_prediction_requests_total, model_version)",
    "purpose": "label_values(ray_node_cpu_utilization, purpose)",
}


@dataclass(frozen=True)
class Panel:
    """One chart.

    Attributes
    ----------
    title, description : str
    queries : tuple of (expression, legend)
    unit : str
        As Grafana names it.
    kind : str
        ``timeseries``, ``stat`` or ``bargauge``.
    unseen : str
        Why a single machine on which all is well has no data for the expressions; empty: it has.
    """

    title: str
    queries: tuple[tuple[str, str], ...]
    description: str
    unit: str = "short"
    kind: str = "timeseries"
    unseen: str = ""


@dataclass(frozen=True)
class Dashboard:
    """One page; its file is ``<name>.json``."""

    name: str
    title: str
    variables: tuple[str, ...]
    panels: tuple[Panel, ...]


def _quantile(q: float, by: str) -> str:
    buckets = f"rate(ray_prediction_duration_seconds_bucket{{{VERSION}}}{WINDOW})"
    return f"histogram_quantile({q}, sum by (le, {by}) ({buckets}))"


def _rate(metric: str, by: str, matchers: str = VERSION) -> str:
    return f"sum by ({by}) (rate({metric}{{{matchers}}}{WINDOW}))"


def _failing(by: str) -> str:
    """Share of the requests that a variant did not answer; 0 where it answers all, as errors have no series then."""
    either = " or ".join(f"rate(ray_prediction_{each}_total{{{VERSION}}}{WINDOW})" for each in ("requests", "errors"))
    return f"1 - {_rate('ray_prediction_requests_total', by)} / sum by ({by}) ({either})"


SERVING = Dashboard(
    "serving",
    "attrition / Serving",
    ("application", "version"),
    (
        Panel(
            "Budget left of 30 days",
            ((f"attrition:budget_left:ratio30d{{{APP}}}", "{{application}}"),),
            "Of the 0.1 % of requests that may fail. Below 0 it is used up.",
            "percentunit",
            "stat",
        ),
        Panel(
            "Replicas that are healthy",
            ((f"sum by (deployment) (ray_serve_deployment_replica_healthy{{{APP}}})", "{{deployment}}"),),
            "Those that answer Serve's health checks.",
            kind="stat",
        ),
        Panel(
            "Requests by version",
            ((_rate("ray_prediction_requests_total", "model_version"), "{{model_version}}"),),
            "Requests with at least one record that the version answered.",
            "reqps",
        ),
        Panel(
            "Records by version",
            ((_rate("ray_prediction_records_total", "model_version"), "{{model_version}}"),),
            "Employees scored.",
            "cps",
        ),
        Panel(
            "Failing share against the objective",
            tuple((f"attrition:failure_ratio:rate{w}{{{APP}}}", w) for w in ("5m", "1h", "6h", "3d")),
            "Failures of the service only. At 0.1 % the budget lasts exactly the month; alerts: infra/alerts.",
            "percentunit",
        ),
        Panel(
            "Problems by kind",
            ((_rate("ray_prediction_errors_total", "kind, model_version", APP), "{{kind}} {{model_version}}"),),
            "Every refusal, the callers' own faults included. Version none: it failed before a version was chosen.",
            "reqps",
        ),
        Panel(
            "Latency by version",
            tuple((_quantile(q, "model_version"), f"p{100 * q:.0f} {{{{model_version}}}}") for q in (0.5, 0.95, 0.99)),
            "In the replica: arrival to encoded answer. The network and HAProxy come on top.",
            "s",
        ),
        Panel(
            "In flight",
            (
                (f"sum by (deployment) (ray_prediction_in_flight{{{APP}}})", "fast lane, {{deployment}}"),
                (f"sum by (deployment) (ray_serve_replica_processing_queries{{{APP}}})", "Serve, {{deployment}}"),
            ),
            "Requests at a time. The fast lane goes past Serve's own counter.",
        ),
        Panel(
            "Replicas wanted, set and healthy",
            (
                (f"max by (deployment) (ray_serve_autoscaling_desired_replicas{{{APP}}})", "wanted, {{deployment}}"),
                (f"max by (deployment) (ray_serve_autoscaling_target_replicas{{{APP}}})", "set, {{deployment}}"),
                (f"sum by (deployment) (ray_serve_deployment_replica_healthy{{{APP}}})", "healthy, {{deployment}}"),
            ),
            "Wanted above set for long: max_replicas is too low. Set above healthy: replicas do not start.",
        ),
        Panel(
            "Answers of Serve itself",
            ((_rate("ray_serve_num_http_error_requests_total", "error_code", APP), "{{error_code}}"),),
            "What does not go through the fast lane, by status from 400 on; 503: a queue was full.",
            "reqps",
        ),
        Panel(
            "Prediction log: age of what is not in the table",
            ((f"max by (application) (ray_prediction_log_lag_seconds{{{APP}}})", "{{application}}"),),
            "Seconds are normal, a quarter of an hour means that storage does not take it.",
            "s",
        ),
        Panel(
            "Prediction log: on disk, dropped, degraded",
            (
                (f"sum by (application) (ray_prediction_log_spool_bytes{{{APP}}})", "bytes on disk"),
                (f"sum by (application) (ray_prediction_log_dropped{{{APP}}})", "predictions dropped"),
                (f"max by (application) (ray_prediction_log_degraded{{{APP}}})", "degraded"),
            ),
            "A dropped prediction was answered and is not recorded.",
        ),
    ),
)

EXPERIMENTS = Dashboard(
    "experiments",
    "attrition / A/B",
    ("application", "version"),
    (
        Panel(
            "Share of the traffic",
            (
                (
                    _rate("ray_prediction_requests_total", "variant, model_version")
                    + f" / scalar(sum(rate(ray_prediction_requests_total{{{APP}}}{WINDOW})))",
                    "{{variant}} {{model_version}}",
                ),
            ),
            "Of requests, not persons: the ratio test of attrition experiment status counts persons.",
            "percentunit",
        ),
        Panel(
            "Failing share by variant",
            ((_failing("variant, model_version"), "{{variant}} {{model_version}}"),),
            "A difference is judged by attrition experiment status, not by eye.",
            "percentunit",
        ),
        Panel(
            "p95 latency by variant",
            ((_quantile(0.95, "variant, model_version"), "{{variant}} {{model_version}}"),),
            "The guard of a rollout reads the replicas themselves, within a second; this is for people.",
            "s",
        ),
        Panel(
            "Records per request",
            (
                (
                    _rate("ray_prediction_records_total", "variant, model_version")
                    + " / "
                    + _rate("ray_prediction_requests_total", "variant, model_version"),
                    "{{variant}} {{model_version}}",
                ),
            ),
            "Variants whose callers send batches of different sizes have incomparable latencies.",
        ),
        Panel(
            "Shadow: disagreements with the answer",
            (
                (
                    _rate("ray_shadow_disagreements_total", "model_version")
                    + " / "
                    + _rate("ray_shadow_scored_total", "model_version"),
                    "{{model_version}}",
                ),
            ),
            "Copies on which the shadow decides otherwise.",
            "percentunit",
        ),
        Panel(
            "Shadow: scored, dropped",
            tuple(
                (_rate(f"ray_shadow_{each}_total", "model_version"), f"{each} {{{{model_version}}}}")
                for each in ("scored", "dropped")
            ),
            "Dropped: its queue was full, the answer did not wait.",
            "cps",
        ),
        Panel(
            "Shadow: failed",
            ((_rate("ray_shadow_failed_total", "model_version"), "{{model_version}}"),),
            "Copies on which the shadow raised: as a champion it would have failed its callers.",
            "cps",
            unseen="appears with the first copy on which a shadow raises",
        ),
        Panel(
            "Versions on a deployment of their own: calls, failures",
            tuple(
                (_rate(f"ray_placed_{each}_total", "model_version"), f"{each} {{{{model_version}}}}")
                for each in ("batches", "failures")
            ),
            "Of versions that need an environment of their own.",
            "cps",
            unseen="there is one only where a version was placed: attrition traffic place",
        ),
    ),
)

MONITORING = Dashboard(
    "monitoring",
    "attrition / Drift and performance",
    ("version",),
    (
        Panel(
            "Verdict of the latest drift run",
            (("max(ray_drift_level)", "level"),),
            "0 stable, 1 moderate, 2 major.",
            kind="stat",
        ),
        Panel(
            "Since the latest drift run",
            (("time() - max(ray_drift_run_timestamp_seconds)", "age"),),
            "Scheduled weekly; after eight days DriftRunStale fires.",
            "s",
            "stat",
        ),
        Panel(
            "Rows compared",
            (("max(ray_drift_window_rows)", "drift run"), ("max(ray_live_rows)", "last predictions")),
            "Few rows make a stability index large by chance.",
            kind="stat",
        ),
        Panel(
            "Age of what the audit log has not exported",
            (("time() - max(ray_audit_export_timestamp_seconds)", "age"),),
            "Scheduled nightly; 0 when everything is exported.",
            "s",
            "stat",
        ),
        Panel(
            "Stability index by feature",
            (("max by (feature_name) (ray_data_drift_magnitude)", "{{feature_name}}"),),
            "PSI against what the champion learned from: from 0.1 moderate, from 0.25 large.",
        ),
        Panel(
            "Shift of the mean by feature",
            (("max by (feature_name) (ray_feature_mean_shift_percent)", "{{feature_name}}"),),
            "Three features beyond 15 % ask for a retraining.",
            "percent",
        ),
        Panel(
            "Stability index of the last predictions",
            (("max by (feature_name) (ray_live_drift_magnitude)", "{{feature_name}}"),),
            "Ahead of the next drift run. One department's batch moves it for some minutes.",
        ),
        Panel(
            "Mean shift of the last predictions",
            (("max by (feature_name) (ray_live_mean_shift_percent)", "{{feature_name}}"),),
            "Of the rows in view.",
            "percent",
        ),
        Panel(
            "AUC by version",
            tuple(
                (f'max by (model_version) (ray_{each}{{model_version=~"$version"}})', f"{each} {{{{model_version}}}}")
                for each in (
                    "realised_auc",
                    "realised_auc_high",
                    "estimated_auc",
                    "estimated_auc_high",
                    "admission_auc",
                )
            ),
            "Realised: from outcomes, a horizon late. ESTIMATED: without outcomes; a question, never a finding.",
        ),
        Panel(
            "Rows of the tables",
            (("max by (table) (ray_table_rows)", "{{table}}"),),
            "Predictions that stop growing while requests go on: see the prediction log in Serving.",
        ),
        Panel(
            "The monitor itself",
            (
                ("time() - max(ray_monitor_timestamp_seconds)", "seconds since its reading"),
                ("max(ray_monitor_failed_sources)", "sources it could not read"),
            ),
            "When it stands still, everything above is old.",
        ),
    ),
)

TUNING = Dashboard(
    "tuning",
    "attrition / Tuning",
    ("purpose",),
    (
        Panel(
            "Trials by state",
            (
                (
                    f'sum by (State) (ray_actors{{{PURPOSE},Name=~"ImplicitFunc|bundle_reservation.*|.*Trainable.*"}})',
                    "{{State}}",
                ),
            ),
            "Ray Tune runs each trial in an actor. What they found is in MLflow.",
            unseen="actors of trials exist while a search runs",
        ),
        Panel(
            "Cores used and free",
            ((f'sum by (State) (ray_resources{{{PURPOSE},Name="CPU"}})', "{{State}}"),),
            "Logical cores, as Ray gives them to trials.",
        ),
        Panel(
            "Tasks by state",
            ((f"sum by (State) (ray_tasks{{{PURPOSE}}})", "{{State}}"),),
            "Drift runs and folds.",
        ),
        Panel(
            "Jobs",
            (
                (f"sum(ray_running_jobs{{{PURPOSE}}})", "running"),
                (f"sum(ray_finished_jobs_total{{{PURPOSE}}})", "finished"),
            ),
            "Of attrition jobs list.",
        ),
        Panel(
            "Workers that died unasked",
            (
                (
                    f"sum by (Type) (increase(ray_node_manager_unexpected_worker_failure_total{{{PURPOSE}}}{WINDOW}))",
                    "{{Type}}",
                ),
            ),
            "A spot node that is taken away looks like this; its trials start again.",
            unseen="appears with the first worker that dies",
        ),
        Panel(
            "Nodes",
            ((f"sum by (NodeType) (autoscaler_active_nodes{{{PURPOSE}}})", "{{NodeType}}"),),
            "From Ray's autoscaler.",
        ),
    ),
)

CLUSTER = Dashboard(
    "cluster",
    "attrition / Cluster",
    ("purpose",),
    (
        Panel(
            "Applications",
            (("min by (application) (ray_serve_application_status)", "{{application}}"),),
            "6 is running; as Ray numbers them.",
            kind="stat",
        ),
        Panel(
            "Nodes that are there, wanted, failed to come",
            (
                (f"sum(autoscaler_active_nodes{{{PURPOSE}}})", "active"),
                (f"sum(autoscaler_pending_nodes{{{PURPOSE}}})", "pending"),
                (f"sum(autoscaler_failed_create_nodes_total{{{PURPOSE}}})", "failed to come"),
            ),
            "From Ray's autoscaler.",
        ),
        Panel(
            "Processor by node",
            ((f"max by (instance) (ray_node_cpu_utilization{{{PURPOSE}}})", "{{instance}}"),),
            "Of the cores of a pod.",
            "percent",
        ),
        Panel(
            "Memory by node",
            (
                (
                    f"max by (instance) (ray_node_mem_used{{{PURPOSE}}} / ray_node_mem_total{{{PURPOSE}}})",
                    "{{instance}}",
                ),
            ),
            "Ray kills workers from 95 % on.",
            "percentunit",
        ),
        Panel(
            "Disk by node",
            ((f"max by (instance) (ray_node_disk_utilization_percentage{{{PURPOSE}}})", "{{instance}}"),),
            "The spool of the prediction log is there.",
            "percent",
        ),
        Panel(
            "Network",
            (
                (f"sum by (instance) (ray_node_network_receive_speed{{{PURPOSE}}})", "in {{instance}}"),
                (f"sum by (instance) (ray_node_network_send_speed{{{PURPOSE}}})", "out {{instance}}"),
            ),
            "Bytes per second.",
            "Bps",
        ),
        Panel(
            "Object store",
            ((f"sum by (Location) (ray_object_store_memory{{{PURPOSE}}})", "{{Location}}"),),
            "Where Ray keeps data between tasks; SPILLED is on disk.",
            "bytes",
        ),
        Panel(
            "Serve's controller: seconds per round",
            (("max(ray_serve_controller_control_loop_duration_s)", "control loop"),),
            "Above a second traffic changes and scaling are late.",
            "s",
        ),
        Panel(
            "Time to start a replica",
            (
                (
                    "histogram_quantile(0.95, sum by (le, deployment) (ray_serve_replica_startup_latency_ms_bucket))",
                    "p95 {{deployment}}",
                ),
            ),
            "How long a scale-up takes to help.",
            "ms",
        ),
        Panel(
            "Failed health checks",
            (("sum by (deployment) (ray_serve_health_check_failures_total)", "{{deployment}}"),),
            "Three in a row, and Serve replaces the replica.",
            unseen="appears with the first health check that fails",
        ),
    ),
)

DASHBOARDS = (SERVING, EXPERIMENTS, MONITORING, TUNING, CLUSTER)


def expressions() -> Iterator[tuple[str, str, str]]:
    """Every expression of every dashboard: where it stands, the expression, why it may have no data or nothing."""
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels:
            for expression, _ in panel.queries:
                yield f"{dashboard.name}: {panel.title}", expression, panel.unseen


def document(dashboard: Dashboard) -> dict[str, Any]:
    """A dashboard as Grafana reads it: small panels first, then two a row."""
    small = [panel for panel in dashboard.panels if panel.kind == "stat"]
    large = [panel for panel in dashboard.panels if panel.kind != "stat"]
    width = 24 // max(1, len(small))
    top = 5 if small else 0
    places = [(panel, {"x": i * width, "y": 0, "w": width, "h": 5}) for i, panel in enumerate(small)]
    places += [(panel, {"x": i % 2 * 12, "y": top + i // 2 * 8, "w": 12, "h": 8}) for i, panel in enumerate(large)]
    return {
        "uid": f"attrition-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["attrition"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "editable": False,
        "links": [{"type": "dashboards", "title": "attrition", "tags": ["attrition"], "asDropdown": True}],
        "templating": {"list": [_datasource(), *(_variable(name) for name in dashboard.variables)]},
        "panels": [_panel(number, panel, place) for number, (panel, place) in enumerate(places, 1)],
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _variable(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": VARIABLES[name], "refId": name},
        "definition": VARIABLES[name],
        "refresh": 2,
        "sort": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    targets = [
        {"refId": chr(ord("A") + i), "datasource": source, "expr": expression, "legendFormat": legend}
        for i, (expression, legend) in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": source,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {"tooltip": {"mode": "multi"}} if panel.kind == "timeseries" else {},
        "targets": targets,
    }


def generated() -> dict[Path, str]:
    """Content of every file, by its path."""
    return {FOLDER / f"{each.name}.json": json.dumps(document(each), indent=1) + "\n" for each in DASHBOARDS}


def main() -> None:
    """Write every file."""
    for path, content in generated().items():
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()

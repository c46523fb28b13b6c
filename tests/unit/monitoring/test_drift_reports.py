"""Reports: their document, their table, their page."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import numpy as np
import pytest

from attrition.data.schema import FeatureSchema
from attrition.errors import IntegrityError, NotFound
from attrition.evaluation.references import DriftReference
from attrition.monitoring.domain_classifier import separability
from attrition.monitoring.drift import DriftPolicy, Level
from attrition.monitoring.drift_page import drift_page
from attrition.monitoring.drift_report import DriftReport, make_report
from attrition.monitoring.drift_reports import DriftReports
from attrition.monitoring.drift_tracking import drift_metrics
from attrition.monitoring.monitor import Monitor
from attrition.monitoring.run import Sample, Sketched
from attrition.monitoring.windows import Window

SCHEMA = FeatureSchema.default()
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def reported(people):
    """Makes a report of a window whose satisfaction moved by `shift`."""
    frame = people(2_000, 9)
    reference = DriftReference.of(frame, SCHEMA, np.linspace(0, 1, 2_000))

    def make(shift=0.0, *, seed=0, n_rows=1_500, now=NOW, together=False, policy=None):
        columns = {name: column.to_numpy() for name, column in people(n_rows, seed, shift=shift).items()}
        columns["probability"] = np.linspace(0, 1, n_rows)
        rows = [columns[name] for name in SCHEMA.names]
        sample = Sample.of(rows, 0, 0)
        window = Window(f"window {seed}", None, None, (), f"{seed} {n_rows} {shift}")
        found = Sketched(reference.sketch(columns), n_rows, 0, sample)
        both = separability(frame.to_numpy(), sample.rows, SCHEMA.names) if together else None
        return make_report(
            reference,
            window,
            found,
            name="1.0.0",
            model_version="1.0.0",
            policy=policy or DriftPolicy(),
            now=now,
            separability=both,
            notes=("A note <b>.",),
        )

    return make


def test_a_quiet_window(reported):
    """Nothing drifted, as a whole and in no segment."""
    report = reported()
    assert report.level is Level.STABLE
    assert report.drifted == ()
    assert {segment.code for segment in report.segments} == {"1", "2", "3"}
    assert not any(segment.level.drifted for segment in report.segments)
    assert "is stable against 1.0.0" in str(report)


def test_a_drifted_window_names_the_feature(reported):
    """Everywhere."""
    report = reported(1.0)
    assert report.level is Level.MAJOR
    assert report.drifted == ("satisfaction_score",)
    assert all(segment.level is Level.MAJOR for segment in report.segments)
    assert "drifted (MAJOR) in satisfaction_score" in str(report)


def test_few_rows(reported):
    """Are neither."""
    report = reported(1.0, n_rows=60)
    assert report.level is Level.INSUFFICIENT
    assert report.drifted == ()
    assert "too few rows" in str(report)


def test_the_document_survives_json(reported):
    """Without NaN, also of a window with few rows."""
    for report in (reported(1.0, together=True), reported(n_rows=20)):
        assert DriftReport.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False))) == report
    with pytest.raises(IntegrityError, match=r"attrition\.drift/1"):
        DriftReport.from_dict({**report.to_dict(), "format": "attrition.drift/9"})


def test_the_id_is_that_of_the_comparison(reported):
    """Not of the moment; another policy is another comparison."""
    report = reported()
    assert reported(now=NOW + timedelta(days=1)).report_id == report.report_id
    others = {reported(seed=1).report_id, reported(policy=DriftPolicy(alpha=0.01)).report_id, report.report_id}
    assert len(others) == 3


def test_reports_are_stored_once_and_found(reported, tmp_path):
    """Newest first; by id and by its beginning."""
    table = DriftReports(str(tmp_path))
    assert table.list() == []
    with pytest.raises(NotFound, match="no such report"):
        table.get("abc")
    reports = [reported(0.4 * i, seed=i, now=NOW + timedelta(days=i)) for i in range(3)]
    assert [table.add(report, f"run{i}") for i, report in enumerate(reports)] == [True] * 3
    assert not table.add(replace(reports[0], created_at=NOW + timedelta(days=9)), "again")
    stored = table.list()
    assert [each.report for each in stored] == reports[::-1]
    assert stored[0].run_id == "run2"
    assert table.get(reports[1].report_id[:10]).report == reports[1]
    assert table.find(reports[0].report_id).report == reports[0]
    assert table.find(reports[0].report_id[:10]) is None
    with pytest.raises(NotFound, match="3 reports begin so"):
        table.get("")
    assert table.list(reference_digest="other") == []
    assert table.list(reference_digest="other", last=2) == []
    assert len(table.list(reference_digest=reports[0].reference_digest, last=2)) == 2


def test_the_standing_is_that_of_the_present(reported, tmp_path):
    """Of reports on registered versions the one that reaches furthest, not the one made last; files do not count."""
    table = DriftReports(str(tmp_path))
    assert table.standing() is None
    week, month = NOW - timedelta(days=7), NOW - timedelta(days=30)
    ahead = replace(reported(1.0, seed=1), end=week, created_at=week)
    back = replace(reported(0.0, seed=2), end=month, created_at=NOW)
    file = replace(reported(2.0, seed=3), model_version="", end=NOW, created_at=NOW)
    for report in (ahead, back, file):
        table.add(report, "run")
    completed, latest = table.standing()
    assert (completed, latest.report) == (NOW, ahead)


def test_only_the_documents_wanted_are_read(reported, tmp_path, monkeypatch):
    """However many there are; the monitor reads one, and none while nobody wrote."""
    table = DriftReports(str(tmp_path))
    for i in range(4):
        table.add(reported(0.2 * i, seed=i, now=NOW + timedelta(days=i)), "run")
    read, whole = [], DriftReport.from_dict
    monkeypatch.setattr(DriftReport, "from_dict", lambda document: read.append(document) or whole(document))
    assert len(table.list(last=2)) == len(read) == 2
    monitor = Monitor(str(tmp_path), lambda version: None)
    for hours in (1, 2):
        found = {(name, labels): value for name, labels, value in monitor.read(NOW + timedelta(days=3, hours=hours))}
        assert found["drift_run_age_seconds", ()] == 3_600 * hours
        assert found["drift_level", ()] == 2
    assert len(read) == 3
    table.add(reported(0.0, seed=9, now=NOW + timedelta(days=4)), "run")
    found = {(name, labels): value for name, labels, value in monitor.read(NOW + timedelta(days=4))}
    assert (found["drift_level", ()], len(read)) == (0, 4)


def test_the_log_of_the_table_holds_no_document(reported, tmp_path):
    """Only when reports were made."""
    DriftReports(str(tmp_path)).add(reported(1.0), "run")
    (first,) = (tmp_path / "drift_reports" / "_delta_log").glob("*1.json")
    assert "created_at" in first.read_text()
    assert "satisfaction_score" not in first.read_text()


def test_metrics(reported):
    """Of every feature, what applies, under names that say what they are."""
    metrics = drift_metrics(reported(1.0, together=True))
    assert metrics["psi.satisfaction_score"] > 0.25
    assert metrics["mean_shift_percent.satisfaction_score"] > 20
    assert metrics["drifted_features"] == 1
    assert 0.5 < metrics["separability_auc"] < 1
    assert "mean_shift_percent.department_code" not in metrics
    assert all(np.isfinite(value) for value in metrics.values())


def test_rows_tell_what_single_features_do_not(people):
    """Two features whose correlation turned are the same one by one; so are two draws of one distribution."""
    rng = np.random.default_rng(3)
    a, b, c = (rng.normal(size=(2_000, 2)) for _ in range(3))
    turned = np.column_stack([a[:, 0], 0.9 * a[:, 0] + 0.4 * a[:, 1]])
    other = np.column_stack([b[:, 0], -0.9 * b[:, 0] + 0.4 * b[:, 1]])
    found = separability(turned, other, ("x", "y"))
    assert found.low > 0.8
    assert found.distinguishable
    same = separability(b, c, ("x", "y"))
    assert same.low < 0.5 < same.high + 0.03
    assert not same.distinguishable
    assert same.features == ()
    assert separability(b[:99], c, ("x", "y")) is None
    endless = separability(np.where(turned > 2, np.inf, turned), other, ("x", "y"))
    assert endless == separability(np.where(turned > 2, np.nan, turned), other, ("x", "y"))


class _Page(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.addresses, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_nothing_else(reported):
    """Two plots per feature, no script, no address, nothing unescaped; the drifted feature first."""
    earlier = [reported(0.1 * i, seed=i, now=NOW - timedelta(days=i)) for i in range(1, 5)]
    report = reported(1.0, together=True)
    source = drift_page(report, [*earlier, report])
    page = _Page(source)
    assert page.tags.count("svg") == 2 * len(report.features)
    assert page.addresses == []
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert "A note <b>." in page.text
    assert "nan" not in source.lower().replace("tenant", "")
    assert source.index("<h3>satisfaction score") < source.index("<h3>age")
    assert "5 reports against the same reference" in page.text


def test_a_page_of_one_report_and_of_few_rows(reported):
    """There is nothing to join by a line, and nothing to divide by."""
    assert "1 report against" in drift_page(reported())
    assert "INSUFFICIENT" in drift_page(reported(n_rows=1))


def test_a_drifted_window_alarms_and_a_stable_one_does_not(reported):
    """One alert per reference, graver for a larger drift; it names features and figures."""
    report = reported(1.0)
    found = replace(report, level=Level.MAJOR)
    (alert,) = found.to_alerts()
    assert alert.key == f"drift/{report.reference}/level"
    assert alert.severity == "critical"
    assert all(name in alert.body for name in found.drifted)
    assert report.report_id in alert.body
    assert replace(report, level=Level.MODERATE).to_alerts()[0].severity == "warning"
    for level in (Level.STABLE, Level.INSUFFICIENT):
        assert replace(report, level=level).to_alerts() == ()

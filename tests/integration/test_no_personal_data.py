"""Logs, errors and metrics never hold a feature value or an id: the product is driven with marked values, and searched.

Everything that reads about a person is called with good and with bad input: import, outcomes, the endpoint in all its
protocols, the prediction log with its committer's process, a batch, report, erasure and retention.
"""

from __future__ import annotations

import asyncio
import json
import logging
import traceback

import httpx
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from attrition.cli.main import app
from attrition.data.workforce import simulate
from attrition.errors import AttritionError
from attrition.governance.privacy import PseudonymKey
from attrition.registry.bundle import load_bundle
from attrition.serving.batch import plan_batch, run_batch
from attrition.serving.batch_execution import in_process
from attrition.serving.gateway import Gateway, Limits
from attrition.serving.prediction_log import LogConfig, PredictionLog
from attrition.serving.traffic import single_variant
from attrition.settings import Settings
from attrition.workspace import Workspace

WORD, ID, NUMBER_ID = "Sentinelius", "SENTINEL-4217", 4217004217
AGE, SALARY, ABSURD = 43.21987, 98765.4321, 7777.1234
MARKS = ("sentinel", "4217", str(AGE), str(SALARY), str(ABSURD))


class Heard:
    """What was said, by whoever said it; and the pseudonyms that may not be said either."""

    def __init__(self):
        self.texts = []
        self.marks = list(MARKS)

    def hear(self, kind, text):
        self.texts.append((kind, text))

    def leaks(self):
        """Which mark was heard where, with what stands around it."""
        return [
            (kind, mark, text[max(0, text.lower().find(mark.lower()) - 150) :][:300])
            for kind, text in self.texts
            for mark in self.marks
            if mark.lower() in text.lower()
        ]


@pytest.fixture
def heard(caplog, capfd):
    caplog.set_level(logging.DEBUG)
    return Heard()


@pytest.fixture
def settings(tmp_path, monkeypatch):
    for variable in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "ATTRITION_RAY_ADDRESS", "ATTRITION_HOME"):
        monkeypatch.delenv(variable, raising=False)
    return Settings.from_environment({}, home=tmp_path / "home")


@pytest.fixture
def extract():
    """A good extract in which two persons carry the marks."""
    frame = simulate(300, seed=5).astype({"employee_id": object, "age": float, "salary": float})
    frame.loc[0, ["employee_id", "age", "salary"]] = [ID, AGE, SALARY]
    frame.loc[1, ["employee_id", "age", "salary"]] = [str(NUMBER_ID), AGE, SALARY]
    return frame


def spoiled(frame):
    """Name → an extract with something wrong in it."""
    words = frame.astype({"age": object, "salary": object, "attrition": object})
    words.loc[[0, 5], "age"] = WORD
    words.loc[3, "salary"] = f"{WORD} {SALARY}"
    words.loc[4, "attrition"] = WORD
    dates = frame.astype({"snapshot_date": object})
    dates.loc[0, "snapshot_date"] = f"{WORD} {ID}"
    repeated = pd.concat([frame, frame.head(2), frame.head(2).assign(age=ABSURD)])
    return {
        "good": (frame, {}),
        "words": (words, {}),
        "dates": (dates, {}),
        "absurd": (frame.assign(age=ABSURD), {}),
        "repeated": (repeated, {}),
        "no-ids": (frame.assign(employee_id=None), {}),
        "headless": (frame, {"header": False}),
        "semicolons": (frame, {"sep": ";"}),
        "one-class": (frame.assign(attrition=1), {}),
        "few": (frame.head(5), {}),
        "unknown-columns": (frame.rename(columns={"salary": "pay", "age": "years"}), {}),
    }


def drive_commands(settings, frame, folder, heard):
    """Imports and checks of every extract, and of outcomes."""

    def run(*arguments, **options):
        result = CliRunner().invoke(app, ["--home", str(settings.home), *map(str, arguments)], **options)
        heard.hear(" ".join(map(str, arguments[:2])) + ", stderr", result.stderr)
        assert "Traceback" not in result.output
        return result

    codes = set()
    for name, (table, options) in spoiled(frame).items():
        path = folder / f"{name}.csv"
        table.to_csv(path, index=False, **options)
        for command in ("check", "import"):
            result = run("data", command, path, "--json")
            heard.hear(f"{command} {name}, stdout", result.stdout)
            codes.add(result.exit_code)
        try:
            Workspace(settings).data.extract(path)
        except AttritionError as error:  # with its causes, as a caller's log would have it
            heard.hear(f"extract {name}, refused", "".join(traceback.format_exception(error)))
    assert codes == {0, 4}
    outcomes = folder / "outcomes.csv"
    outcomes.write_text(f"employee_id,left_on\n{ID},{WORD}\n,2024-01-01\n{NUMBER_ID},2024-02-30\n")
    assert run("outcomes", "import", outcomes).exit_code == 4
    outcomes.write_text(f"employee_id,left_on\n{ID},2024-05-01\n{NUMBER_ID},\n")
    assert run("outcomes", "import", outcomes).exit_code == 0
    return run


RECORDS = [
    {"employee_id": ID, "age": AGE, "salary": SALARY},
    {"employee_id": NUMBER_ID, "age": AGE, "salary": SALARY},
    {"employee_id": ID, "age": WORD},
    {"employee_id": ID, "age": ABSURD, "salary": [SALARY]},
    {"employee_id": {"id": ID}, "age": AGE},
    {"employee_id": ID * 20, "age": AGE},
    {"employee_id": ID, "age": AGE, "promotion_flag": ABSURD, "department_code": WORD},
]


def drive_endpoint(settings, bundle, heard):
    """Every protocol with every record, on a gateway with a real log whose committer is a process of its own."""
    log = PredictionLog(LogConfig.of(settings, seal_seconds=0.05, commit_seconds=0.1)).start()
    gateway = Gateway(Limits(), load_bundle, replica="r1", log=log)

    async def drive():
        await gateway.reconfigure(single_variant(bundle).model_dump(mode="json"))
        transport = httpx.ASGITransport(gateway)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return [await client.post(path, content=body) for path, body in requests()]

    def requests():
        for record in RECORDS:
            yield "/v1/predict", json.dumps(record)
            yield "/v1/predict", json.dumps({"records": [RECORDS[0], record]})
            yield "/invocations", json.dumps({"dataframe_records": [record]})
            split = {"columns": list(record), "data": [list(record.values())]}
            yield "/invocations", json.dumps({"dataframe_split": split})
            yield "/invocations", json.dumps({"inputs": {name: [value] for name, value in record.items()}})
            tensors = [
                {"name": name, "shape": [1], "datatype": "FP64", "data": [value]} for name, value in record.items()
            ]
            yield "/v2/models/employee-attrition-classifier/infer", json.dumps({"inputs": tensors})
            yield "/v1/outcomes", json.dumps({"outcomes": [{"employee_id": record["employee_id"], "left_on": WORD}]})
        yield "/v1/outcomes", json.dumps({"outcomes": [{"employee_id": ID, "left_on": "2024-05-01"}]})
        for path in ("/v1/predict", "/invocations", "/v1/outcomes", "/v2/models/employee-attrition-classifier/infer"):
            yield path, f'{{"employee_id": "{ID}", "age": {AGE}, {WORD}'
            yield path, json.dumps([ID, AGE, WORD])
            yield path, json.dumps(f"{ID} {AGE}")

    answers = asyncio.run(drive())
    assert {200, 422, 400} <= {answer.status_code for answer in answers}
    assert not any(answer.status_code >= 500 for answer in answers)
    for answer in answers:
        heard.hear(f"answer {answer.status_code} of {answer.request.url.path}", answer.text + str(answer.headers))
    readings = gateway.meter.drain()
    assert readings.counts
    heard.hear("metrics", repr((dict(readings.counts), readings.durations)))
    heard.hear("health of the log", json.dumps(log.health().to_dict()))
    assert log.close()
    heard.hear("status of the committer", (settings.home / "spool" / "committer.json").read_text())


def drive_batches(frame, bundle, key, folder, heard):
    """A batch of each extract; its messages, its result and its progress."""
    n_refused = 0
    for name, (table, options) in spoiled(frame).items():
        path = folder / f"batch-{name}.csv"
        table.drop(columns="attrition").to_csv(path, index=False, **options)
        try:
            plan = plan_batch(path, folder / "out" / f"{name}.csv", bundle, key, ids="raw")
            done = run_batch(plan, in_process, on_progress=lambda progress: heard.hear("progress", repr(progress)))
            heard.hear(f"batch {name}", json.dumps(done.to_dict(), default=str))
        except AttritionError as error:
            n_refused += 1
            heard.hear(f"batch {name}, refused", "".join(traceback.format_exception(error)))
    assert n_refused


def drive_privacy(run, heard):
    """Reports and erasures, of persons on record and of others."""
    for who in (ID, NUMBER_ID):
        assert run("privacy", "report", who).exit_code == 0
        done = run("privacy", "erase", who, "--justification", "request 7", "--yes", "--json")
        assert done.exit_code == 0
        heard.hear("erase, stdout", done.stdout)
        for command in (("report",), ("erase", "--justification", "x", "--yes"), ("report", "--pseudonym")):
            assert run("privacy", *command, who).exit_code in {2, 4}
    heard.hear("retain, stdout", run("privacy", "retain", "--json").stdout)


def test_no_value_and_no_id_is_ever_said(settings, extract, make_bundle, tmp_path, heard, caplog, capfd):
    """By no logger at any level, no message, no answer to a bad request, no metric; and by no table's log."""
    key = PseudonymKey.load_or_create(settings.key_file)
    heard.marks += [key.pseudonym(ID), key.pseudonym(str(NUMBER_ID))]
    bundle = make_bundle("1.0.0", 0.5)
    run = drive_commands(settings, extract, tmp_path, heard)
    drive_endpoint(settings, bundle, heard)
    drive_batches(extract, bundle, key, tmp_path, heard)
    drive_privacy(run, heard)
    out, err = capfd.readouterr()
    heard.hear("stdout of the process", out)
    heard.hear("stderr of the process", err)
    for record in caplog.records:
        text = record.getMessage()
        if record.exc_info:
            text += "".join(traceback.format_exception(*record.exc_info))
        heard.hear(f"log of {record.name}", text)
    for path in settings.home.rglob("_delta_log/*.json"):
        heard.hear(f"log of the table {path.parent.parent.name}", path.read_text())
    for path in (settings.home / "logs").rglob("*"):
        heard.hear(str(path), path.read_text())
    assert len(heard.texts) > 150
    assert heard.leaks() == []


def test_the_search_would_find_a_leak(heard):
    """A test that cannot fail would prove nothing."""
    heard.hear("log", f"could not read {WORD.upper()} of {NUMBER_ID}")
    assert [(kind, mark) for kind, mark, _ in heard.leaks()] == [("log", "sentinel"), ("log", "4217")]


def test_what_is_looked_for_is_really_held(settings, extract, tmp_path):
    """The marked persons are in the tables before they are erased."""
    path = tmp_path / "hr.csv"
    extract.to_csv(path, index=False)
    table = Workspace(settings).data.load(path).table
    assert np.isclose(table.features["age"], AGE).sum() == 2
    assert np.isclose(table.features["salary"], SALARY).sum() == 2

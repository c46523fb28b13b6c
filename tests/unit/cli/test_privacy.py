"""``attrition privacy``, seen from outside."""

from __future__ import annotations

import json
import time

import pytest
from typer.testing import CliRunner

from attrition.cli.main import app
from attrition.data.workforce import simulate
from attrition.serving.identifiers import new_prediction_id
from attrition.serving.log_entries import Predictions, Scored, doubles, encode
from attrition.serving.spool import Spool, spools
from attrition.settings import Settings
from attrition.workspace import Workspace

TWO_MONTHS_US = 60 * 86_400 * 1_000_000


@pytest.fixture
def settings(tmp_path, monkeypatch):
    for variable in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "ATTRITION_RAY_ADDRESS", "ATTRITION_HOME"):
        monkeypatch.delenv(variable, raising=False)
    return Settings.from_environment({}, home=tmp_path / "home")


@pytest.fixture
def run(settings):
    """Runs `attrition` in the test's home."""

    def invoke(*arguments, **options):
        return CliRunner().invoke(app, ["--home", str(settings.home), *map(str, arguments)], **options)

    return invoke


@pytest.fixture
def who(run, settings, tmp_path):
    """The HR system's number of a person in a snapshot, in the outcomes, and in a spool that nobody has committed."""
    frame = simulate(200, seed=5)
    extract, leavers = tmp_path / "hr.csv", tmp_path / "leavers.csv"
    frame.to_csv(extract, index=False)
    number = str(frame["employee_id"][7])
    leavers.write_text(f"employee_id,left_on\n{number},2024-05-01\nE-other,\n")
    assert run("data", "import", extract).exit_code == 0
    assert run("outcomes", "import", leavers).exit_code == 0
    spool = Spool(settings.home / "spool", max_bytes=10**6)
    pseudonym = Workspace(settings).privacy.pseudonym(number)
    names = [new_prediction_id() for _ in range(2)]
    group = Scored(
        "1.0.0",
        "blue",
        0.2,
        ("salary",),
        names,
        [pseudonym, None],
        ["sole"] * 2,
        doubles([0.25] * 2),
        doubles([41.5] * 2),
    )
    spool.append(encode(Predictions(time.time_ns() // 1000 - TWO_MONTHS_US, 120, [group])))
    spool.close()
    return number


def test_a_report_says_where_and_not_what(run, who, settings):
    """By number, by number from stdin, and by pseudonym."""
    by_number = run("privacy", "report", who, "--json")
    assert by_number.exit_code == 0
    document = json.loads(by_number.stdout)
    assert [item["store"] for item in document["holdings"]] == ["spools", "outcomes", "snapshots"]
    assert document["n_rows"] == 3
    assert who not in by_number.output
    assert json.loads(run("privacy", "report", "-", "--json", input=f"{who}\n").stdout) == document
    by_pseudonym = run("privacy", "report", document["pseudonym"], "--pseudonym")
    assert by_pseudonym.exit_code == 0
    assert "Held about this person: 3 rows" in by_pseudonym.stdout
    assert "Model versions and bundles hold no rows" in by_pseudonym.stdout
    assert "41.5" not in by_pseudonym.output + by_number.output
    # the audit log names the person by a token, never by number or pseudonym
    records = [record for record in Workspace(settings).audit.records() if record.action == "privacy.report"]
    token = Workspace(settings).privacy.keys.token(document["pseudonym"])
    assert {record.subject for record in records} == {f"person:{token}"}


def test_the_values_go_to_a_private_file(run, who, tmp_path):
    """Which is not overwritten."""
    path = tmp_path / "answer.json"
    assert run("privacy", "report", who, "--include-values", path).exit_code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["rows"]["spools"][0]["feature_salary"] == 41.5
    again = run("privacy", "report", who, "--include-values", path)
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_an_erasure_asks_first(run, who):
    """No is an answer; yes erases, and then nobody is held."""
    refused = run("privacy", "erase", who, "--justification", "request 7", input="n\n")
    assert refused.exit_code == 2
    assert json.loads(run("privacy", "report", who, "--json").stdout)["n_rows"] == 3
    done = run("privacy", "erase", who, "--justification", "request 7", input="y\n")
    assert done.exit_code == 0
    assert "snapshots" in done.stdout
    for command in (("report", who), ("erase", who, "--justification", "again", "--yes")):
        result = run("privacy", *command)
        assert result.exit_code == 4
        assert "nothing is held about this person (erasure finished on" in result.stderr
        assert who not in result.output


def test_an_erasure_reaches_every_store(run, who, settings):
    """What was in the spool arrives without the person, and a later import leaves the person out."""
    document = json.loads(run("privacy", "report", who, "--json").stdout)
    token = Workspace(settings).privacy.keys.token(document["pseudonym"])
    done = run("privacy", "erase", "-", "--justification", "request 7", "--yes", "--json", input=who)
    result = json.loads(done.stdout)
    assert result["n_rows"] == {"spools": 1, "mlflow": 0, "predictions": 0, "outcomes": 1, "snapshots": 1}
    assert result["is_finished"]
    assert result["key_destroyed"]
    assert who not in done.output
    assert document["pseudonym"] not in done.output
    assert spools(settings.home / "spool") == []
    assert len(Workspace(settings).predictions.between()) == 1
    log = Workspace(settings).audit
    erasures = [record for record in log.records() if record.action == "privacy.erase"]
    subject = f"person:{token}"
    assert [(record.subject, record.outcome) for record in erasures] == [(subject, "started"), (subject, "succeeded")]
    assert {record.justification for record in erasures} == {"request 7"}
    assert not log.verify().breaks
    assert not Workspace(settings).privacy.keys.knows(document["pseudonym"])
    assert Workspace(settings).privacy.keys.token(document["pseudonym"]) != token
    rows = Workspace(settings).data.read().snapshot.n_rows
    assert (rows, Workspace(settings).data.read().snapshot.n_erased) == (199, 1)


def test_a_person_comes_back_by_no_import(run, who, tmp_path, settings):
    """Neither in the data nor in the report about them."""
    run("privacy", "erase", who, "--justification", "request 7", "--yes")
    again = json.loads(run("data", "import", tmp_path / "hr.csv", "--json").stdout)
    assert again["snapshot"]["n_rows"] == 199
    assert again["quality"]["n_rows"] == 199
    assert again["snapshot"]["content_hash"] == Workspace(settings).data.read(0).snapshot.content_hash
    assert json.loads(run("outcomes", "import", tmp_path / "leavers.csv", "--json").stdout)["n_new"] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["report", "nobody-of-ours"], 4, "nothing is held about this person"),
        (["erase", "nobody-of-ours", "--justification", "x", "--yes"], 4, "nothing is held about this person"),
        (["report", " "], 2, "employee: is empty"),
        (["report", "E1", "--pseudonym"], 2, "is no pseudonym"),
        (["erase", "E1", "--yes"], 2, "--justification"),
        (["erase", "E1", "--justification", " ", "--yes"], 2, "justification: is empty"),
        (["erase", "E4711", "--justification", "request of e4711.", "--yes"], 2, "names the person"),
        (["retain", "--policy", "absent.yaml"], 4, "absent.yaml"),
    ],
)
@pytest.mark.usefixtures("who")
def test_what_cannot_be_meant(run, arguments, code, words):
    """With the exit code of its kind, and without the id."""
    result = run("privacy", *arguments)
    assert result.exit_code == code
    assert words in result.stderr
    assert "nobody-of-ours" not in result.stderr
    assert "Traceback" not in result.output


def test_nobody_to_ask_is_told_to_say_yes(run, who):
    """Usage, not a bare abort; nothing was done. The word for why has a shorter name."""
    result = run("privacy", "erase", who, "--reason", "request 7", input="")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert run("privacy", "report", who).exit_code == 0


def test_erased_twice_is_said_to_be_done(run, who):
    """Not that the id may be wrong."""
    assert run("privacy", "erase", who, "--reason", "request 7", "--yes").exit_code == 0
    again = run("privacy", "erase", who, "--reason", "request 7", "--yes")
    assert again.exit_code == 4
    assert "nothing left to do" in " ".join(again.stderr.split())


def test_a_project_without_a_key(run):
    """Nobody can be on record by a number."""
    result = run("privacy", "report", "E1")
    assert result.exit_code == 4
    assert "there is no pseudonym key" in result.stderr


def test_an_unfinished_erasure_exits_five(run, who, tmp_path):
    """So that a script notices; the repetition finishes it."""
    policy = tmp_path / "retention.yaml"
    policy.write_text("old_file_hours: 1\n")
    result = run("privacy", "erase", who, "--justification", "request 7", "--yes", "--policy", policy)
    assert result.exit_code == 5
    assert "old files" in result.stdout
    assert "Repeat the command" in result.stderr
    assert run("privacy", "erase", who, "--justification", "request 7", "--yes").exit_code == 0


@pytest.mark.usefixtures("who")
def test_retention(run, settings):
    """Counts first, then does."""
    run("predictions", "recover")
    foreseen = json.loads(run("privacy", "retain", "--dry-run", "--json").stdout)
    assert (foreseen["dry_run"], foreseen["n_scoring_inputs"], foreseen["n_predictions"]) == (True, 2, 0)
    assert Workspace(settings).predictions.between()["feature_salary"].notna().all()
    shown = run("privacy", "retain")
    assert shown.exit_code == 0
    assert "predictions that lose their inputs       2" in shown.stdout
    assert Workspace(settings).predictions.between()["feature_salary"].isna().all()

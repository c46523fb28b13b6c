"""Bad input on the command line: an exit code, one message that says what to do, and nothing half-written."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from attrition.cli.main import app
from attrition.data.workforce import simulate

EXIT_INPUT, EXIT_PLATFORM = 4, 5


@pytest.fixture
def home(tmp_path, monkeypatch):
    for variable in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "ATTRITION_RAY_ADDRESS", "ATTRITION_HOME"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "home"


@pytest.fixture
def refused(home):
    """Runs a command that must be refused, and returns the message after checking its form."""

    def run(*arguments, code=EXIT_INPUT, options=()):
        before = files(home)
        result = CliRunner().invoke(app, ["--home", str(home), *options, *map(str, arguments)])
        assert result.exit_code == code, result.output
        assert result.stderr.count("Error:") == 1
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        assert len(result.stderr.splitlines()) <= 11  # ten faults, and how many more
        assert files(home) == before
        return result.stderr

    return run


def files(home):
    """Everything below the home, less the keys that the first command makes and the record that it was refused."""
    below = {path.relative_to(home) for path in home.rglob("*") if path.is_file()}
    return {str(path) for path in below if path.parent.name != "keys" and not path.name.startswith("governance.db")}


@pytest.fixture(scope="module")
def frame():
    return simulate(300, seed=5)


@pytest.fixture
def extract(frame, tmp_path):
    """Writes the simulated extract, changed by a function, and returns its path."""

    def write(change=lambda good: good, **options):
        path = tmp_path / "hr.csv"
        change(frame.copy()).to_csv(path, index=False, **options)
        return path

    return write


@pytest.fixture(params=["import", "check"])
def command(request):
    """Both commands read the file in the same way."""
    return request.param


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file(refused, tmp_path, command, content):
    """Also one of blank lines."""
    (tmp_path / "hr.csv").write_text(content)
    assert "hr.csv: is empty" in refused("data", command, tmp_path / "hr.csv")


def test_a_wrong_delimiter(refused, extract, command):
    """The right one, and the line that sets it."""
    message = refused("data", command, extract(sep=";"))
    assert "the semicolon does" in message
    assert "dialect.delimiter: ';'" in message


def test_missing_columns(refused, extract, command):
    """All of them at once, with the nearest name that the file has."""
    path = extract(lambda good: good.drop(columns=["age"]).rename(columns={"salary": "Salery", "tenure": "months"}))
    message = refused("data", command, path)
    for found in ("has no column age", "has no column tenure", "has no column salary", "did you mean Salery?"):
        assert found in message


def test_a_file_without_a_header(refused, extract, command, frame):
    """The row that stands in its place is nobody's business."""
    message = refused("data", command, extract(header=False))
    assert "check that its first line holds the names of its columns" in message
    assert str(frame["employee_id"][0]) not in message


def test_text_in_a_number(refused, extract, command):
    """Columns, counts and lines, never the text."""

    def change(good):
        good = good.astype({"age": object, "salary": object})
        good.loc[[3, 7], "age"] = "Miller"
        good.loc[0, "salary"] = "Smith"
        return good

    message = refused("data", command, extract(change))
    assert "column age: 2 of" in message
    assert "(lines 5, 9)" in message
    assert "column salary: 1 of" in message
    assert "Miller" not in message
    assert "Smith" not in message


@pytest.mark.parametrize(("outcome", "word"), [(0, "stayed"), (1, "left")])
def test_all_one_class(refused, extract, command, outcome, word):
    """Nothing can be learned from it."""
    assert f"everybody {word}" in refused("data", command, extract(lambda good: good.assign(attrition=outcome)))


def test_twenty_rows(refused, extract, command):
    """With the number that is needed."""
    assert "has 20 rows; at least 100 are needed" in refused("data", command, extract(lambda good: good.head(20)))


def test_a_mapping_that_names_absent_columns(refused, extract, command, tmp_path):
    """In whatever way it reads them."""
    mapping = tmp_path / "own.yaml"
    mapping.write_text(
        "name: own\nemployee_id: {column: employee_id}\ntarget: {column: left}\nfeatures:\n"
        "  tenure: {column: months}\n  age: {derive: 'year(snapshot_date) - birthyear'}\n"
        + "".join(
            f"  {name}: {{absent: true}}\n"
            for name in (
                "satisfaction_score",
                "performance_rating",
                "work_hours",
                "projects_count",
                "promotion_flag",
                "salary",
                "department_code",
            )
        )
    )
    message = refused("data", command, extract(), "--mapping", mapping)
    for column in ("left", "months", "birthyear"):
        assert f"has no column {column}; mapping own reads" in message


def test_a_mapping_with_typos(refused, extract, command, tmp_path):
    """Every one of them, with the path of its key."""
    mapping = tmp_path / "own.yaml"
    mapping.write_text("name: own\nemployee_id: {column: id}\nfeatures: {tenure: {colunm: months}}\ntarqet: {}\n")
    message = refused("data", command, extract(), "--mapping", mapping)
    assert "own.yaml: unknown key features.tenure.colunm" in message
    assert "own.yaml: unknown key tarqet" in message


def test_a_mapping_with_a_key_twice(refused, extract, command, tmp_path):
    """YAML would take the second one in silence."""
    mapping = tmp_path / "own.yaml"
    mapping.write_text("name: own\nfeatures: {}\nemployee_id: {column: a}\nemployee_id: {column: b}\n")
    message = refused("data", command, extract(), "--mapping", mapping)
    assert "own.yaml, line 4: key employee_id stands here a second time" in message


def test_an_unknown_mapping(refused, extract, command):
    """A near miss is guessed."""
    assert "did you mean workforce?" in refused("data", command, extract(), "--mapping", "workfroce")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("features: [{name: age, kind: integr}]\n", "kind"),
        ("features: [{name: age, kind: integer, minimun: 1}]\n", "unknown key features.0.minimun"),
        ("name: a\nname: b\nfeatures: [{name: age, kind: integer}]\n", "line 2: key name stands here a second time"),
        ("features: [\n", "not valid YAML"),
        ("", "a mapping of keys to values is expected"),
    ],
)
def test_a_schema_with_a_typo(refused, extract, command, tmp_path, content, found):
    """The file, and the key or line in it."""
    schema = tmp_path / "schema.yaml"
    schema.write_text(content)
    message = refused("data", command, extract(), "--schema", schema)
    assert "schema.yaml" in message
    assert found in message


def test_a_schema_that_does_not_exist(refused, extract, command, tmp_path):
    """By its path."""
    assert "cannot be read" in refused("data", command, extract(), "--schema", tmp_path / "absent.yaml")


@pytest.fixture
def stored(home, extract):
    """A snapshot to tune on."""
    result = CliRunner().invoke(app, ["--home", str(home), "data", "import", str(extract())])
    assert result.exit_code == 0, result.output


def test_a_ray_address_that_does_not_answer(refused, stored, unused_port):
    """A platform error, with the address."""
    address = f"127.0.0.1:{unused_port}"
    message = refused("tune", "--config", "smoke", code=EXIT_PLATFORM, options=["--ray-address", address])
    assert f"Ray address {address}" in message
    assert "check the address, and that the cluster runs" in message


def test_a_ray_address_that_accepts_and_never_answers(refused, stored):
    """Ends by itself within seconds: Ray alone would wait for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        message = refused("tune", "--config", "smoke", code=EXIT_PLATFORM, options=["--ray-address", address])
    assert time.monotonic() - started < 20
    assert f"Ray address {address}: something listens there, but it is no Ray" in message


def test_a_ray_address_of_another_form(refused, stored):
    """The dashboard's, which people have at hand."""
    message = refused("tune", "--config", "smoke", options=["--ray-address", "http://127.0.0.1:8265"])
    assert "host:port" in message


def test_a_home_that_is_a_file(tmp_path):
    """The stores need a folder."""
    (tmp_path / "taken").write_text("")
    result = CliRunner().invoke(app, ["--home", str(tmp_path / "taken"), "models", "list"])
    assert result.exit_code == EXIT_INPUT
    assert "cannot be a folder" in result.stderr


def test_the_home_is_its_users_alone(home, extract):
    """It holds data about people."""
    CliRunner().invoke(app, ["--home", str(home), "data", "import", str(extract())])
    assert home.stat().st_mode & 0o077 == 0


def test_a_dead_mlflow_is_noticed_before_a_ray_is_started(home, extract):
    """And no study is begun."""
    options = ["--home", str(home), "--tracking-uri", "http://127.0.0.1:9"]
    assert CliRunner().invoke(app, [*options, "data", "import", str(extract())]).exit_code == 0
    result = CliRunner().invoke(app, [*options, "tune", "--config", "smoke"])
    assert result.exit_code == EXIT_PLATFORM
    assert "127.0.0.1:9" in result.stderr
    assert "Ray" not in result.stderr
    assert not (home / "tune").exists()


ID = "018e2f5c-7a10-7cc3-98c4-dc0c0c07398f"


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], "nothing given"),
        ([ID, "--global", "champion"], "ID and --global given"),
        ([ID, "--version", "1.0.0"], "ID and --version given"),
        (["--global", "champion", "--version", "1.0.0"], "--global and --version given"),
        (["E-0001"], "is no UUID of version 7"),
    ],
)
def test_explain_about_no_single_thing(refused, arguments, found):
    """Usage, before anything is opened."""
    assert found in " ".join(refused("explain", *arguments, code=2).split())


def test_explain_an_unknown_prediction_or_an_unreadable_record(refused, tmp_path):
    """Nothing was logged here; and a file must hold one record."""
    assert "no prediction with this id is recorded" in " ".join(refused("explain", ID).split())
    path = tmp_path / "record.json"
    assert "cannot be read" in refused("explain", "--record", path)
    path.write_text("{")
    assert "is not JSON" in refused("explain", "--record", path)
    path.write_text("[1]")
    assert "is no JSON object" in refused("explain", "--record", path)


@pytest.mark.parametrize("address", ["nonsense", "file:///tmp/mlruns", "./mlruns"])
def test_a_folder_is_no_tracking_store(refused, address):
    """MLflow's own explanation fills a screen."""
    message = refused("models", "list", options=["--tracking-uri", address])
    assert f"MLFLOW_TRACKING_URI {address}: names a folder" in message
    assert "sqlite:///FILE" in message


@pytest.fixture
def other_server():
    """A web server that knows nothing of MLflow or Ray."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def do_DELETE(self):
            self.send_error(404)

        def log_message(self, *_arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_another_server_in_mlflows_place(refused, other_server):
    """One sentence, and nothing of its page."""
    message = refused("models", "list", code=EXIT_PLATFORM, options=["--tracking-uri", other_server])
    assert f"{other_server}: is no MLflow server: it answers 404" in message
    assert "DOCTYPE" not in message


@pytest.mark.parametrize(
    "command", [["serve", "status"], ["serve", "down"], ["traffic", "show"], ["traffic", "rollback"]]
)
def test_another_server_in_the_dashboards_place(home, other_server, command):
    """One clear error, whatever is asked; no warning of a library."""
    result = CliRunner().invoke(app, ["--home", str(home), "--ray-address", other_server, *command])
    assert result.exit_code == EXIT_PLATFORM
    lines = [line for line in result.stderr.splitlines() if line != "Stopping ..."]
    assert len(lines) == 1
    assert lines[0].startswith(
        f"Error: {other_server}: is no Ray dashboard: it answers with status 404; give the address"
    )


def test_outcomes_that_cannot_be_read(refused, tmp_path):
    """The remedy is one that this command has."""
    (tmp_path / "left.csv").write_text("employee_id,left_on\nE1,2024-13-01\nE2,yesterday\n")
    message = refused("outcomes", "import", tmp_path / "left.csv")
    assert "2 of 2 cells hold no date written YYYY-MM-DD (lines 2, 3); write 2024-03-31." in message
    assert "date_format" not in message


def test_nothing_is_registered_yet(home):
    """Says how a version is made, and starts no Ray for it."""
    result = CliRunner().invoke(app, ["--home", str(home), "serve", "up"])
    assert result.exit_code == EXIT_INPUT
    told = "version champion: does not exist; none is registered; make one: attrition tune --register."
    assert told in result.stderr
    assert not list(home.glob("ray*"))


def test_a_period_that_ends_before_it_begins(refused, tmp_path):
    """Before anything is read."""
    period = ["--since", "2024-04-01", "--until", "2024-03-01"]
    message = refused("predictions", "export", tmp_path / "x.csv", *period, code=2)
    assert "the period: begins on 2024-04-01 and ends before that; exchange them." in message

"""The command line: help, exit codes and messages, seen from outside."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from attrition.cli.console import emit, say
from attrition.cli.main import app

HEAVY = ("ray", "mlflow", "pandas", "sklearn", "numpy", "scipy", "matplotlib", "shap", "fairlearn", "pydantic")

COMMANDS = [
    [],
    ["quickstart"],
    ["tune"],
    ["train"],
    ["validate"],
    ["score"],
    ["explain"],
    ["data"],
    ["data", "import"],
    ["data", "check"],
    ["data", "snapshots"],
    ["data", "simulate"],
    ["models"],
    ["models", "register"],
    ["models", "list"],
    ["models", "show"],
    ["models", "compare"],
    ["models", "verify"],
    ["models", "approve"],
    ["serve"],
    ["serve", "up"],
    ["serve", "status"],
    ["serve", "down"],
    ["predictions"],
    ["predictions", "tail"],
    ["predictions", "export"],
    ["predictions", "recover"],
    ["outcomes"],
    ["outcomes", "import"],
    ["models", "alias"],
    ["models", "export"],
    ["models", "unchanged"],
    ["predictions", "compact"],
    ["outcomes", "compact"],
    ["traffic"],
    ["traffic", "show"],
    ["traffic", "set"],
    ["traffic", "pin"],
    ["traffic", "unpin"],
    ["traffic", "shadow"],
    ["traffic", "switch"],
    ["traffic", "rollback"],
    ["traffic", "history"],
    ["cluster"],
    ["cluster", "up"],
    ["cluster", "status"],
    ["cluster", "deploy"],
    ["cluster", "traffic"],
    ["cluster", "down"],
    ["jobs"],
    ["jobs", "submit"],
    ["jobs", "list"],
    ["jobs", "logs"],
    ["jobs", "stop"],
    ["experiment"],
    ["experiment", "plan"],
    ["experiment", "start"],
    ["experiment", "status"],
    ["experiment", "list"],
    ["experiment", "analyze"],
    ["experiment", "stop"],
    ["simulate"],
    ["retrain"],
    ["retrain", "history"],
    ["release"],
    ["release", "stage"],
    ["release", "approve"],
    ["release", "start"],
    ["release", "run"],
    ["release", "status"],
    ["release", "pause"],
    ["release", "resume"],
    ["release", "promote"],
    ["release", "rollback"],
    ["drift"],
    ["drift", "run"],
    ["drift", "live"],
    ["drift", "list"],
    ["drift", "show"],
    ["performance"],
    ["performance", "estimate"],
    ["alerts"],
    ["alerts", "test"],
    ["alerts", "list"],
    ["privacy"],
    ["privacy", "report"],
    ["privacy", "erase"],
    ["privacy", "retain"],
    ["access"],
    ["access", "roles"],
    ["access", "whoami"],
    ["access", "key"],
    ["access", "key", "create"],
    ["access", "key", "list"],
    ["access", "key", "revoke"],
    ["audit"],
    ["audit", "list"],
    ["audit", "show"],
    ["audit", "verify"],
    ["audit", "export"],
    ["audit", "head"],
    ["audit", "key"],
]

GROUPS = [
    *(
        [group]
        for group in (
            "data",
            "models",
            "serve",
            "predictions",
            "outcomes",
            "traffic",
            "experiment",
            "access",
            "audit",
            "privacy",
            "jobs",
            "cluster",
            "drift",
            "release",
            "alerts",
        )
    ),
    ["access", "key"],
]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `attrition` with a fresh home and no addresses from outside."""
    for variable in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "ATTRITION_RAY_ADDRESS", "ATTRITION_HOME"):
        monkeypatch.delenv(variable, raising=False)
    runner = CliRunner()

    def invoke(*arguments):
        return runner.invoke(app, ["--home", str(tmp_path / "home"), *map(str, arguments)])

    return invoke


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command):
    """`--help` exits 0, and a command that does something shows how it is called."""
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    if command and command not in GROUPS:
        assert "Example: attrition" in " ".join(result.output.split())


def test_help_imports_nothing_heavy():
    """`attrition --help` must answer at once, so it may not load the libraries that the work needs."""
    code = (
        "import sys; from attrition.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_an_error_of_a_library_is_told_without_its_words():
    """They may hold a person's values; also where Typer would report it."""
    code = (
        "import sys; from attrition.cli.main import main; from attrition.workspace import Workspace\n"
        "def fail(*_, **__): float('Sent' + 'inel')\n"
        "Workspace.__init__ = fail; sys.argv = ['attrition', 'models', 'list']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ValueError (its words" in done.stderr
    assert "Sentinel" not in done.stderr


def test_version(run):
    """`--version` prints the package's version."""
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("attrition ")


def test_wrong_flag_is_a_usage_error(run):
    """An unknown flag exits 2 and is named."""
    result = run("models", "list", "--jsn")
    assert result.exit_code == 2
    assert "--jsn" in result.output


def test_missing_file(run, tmp_path):
    """A file that does not exist exits 4, is named, and leaves no snapshot behind."""
    result = run("data", "import", tmp_path / "absent.csv", "--mapping", "workforce")
    assert result.exit_code == 4
    assert "absent.csv" in result.output
    assert "Traceback" not in result.output
    assert json.loads(run("data", "snapshots", "--json").stdout) == []


def test_plan_with_a_typo(run, tmp_path):
    """An unknown key of a plan exits 4 and is named with its file."""
    plan = tmp_path / "plan.yaml"
    plan.write_text("n_trails: 3\n")
    result = run("tune", "--config", plan)
    assert result.exit_code == 4
    assert "n_trails" in result.output


def test_unknown_plan_lists_the_shipped_ones(run):
    """A plan that does not exist exits 4 and says which are shipped."""
    result = run("tune", "--config", "enormous")
    assert result.exit_code == 4
    assert "default, smoke, thorough" in result.output
    assert "gates" not in result.output


def test_unknown_gates_list_the_shipped_ones(run):
    """And no search plans."""
    result = run("validate", "1.0.0", "--gates", "strict")
    assert result.exit_code == 4
    assert "shipped in tune_configs: gates" in result.output
    assert "thorough" not in result.output


def test_tuning_without_a_snapshot_says_what_to_do(run):
    """Without data the message names the command that stores some."""
    result = run("tune", "--config", "smoke")
    assert result.exit_code == 4
    assert "attrition data import" in result.output


def test_param_without_a_value_is_a_usage_error(run):
    """`--param` wants NAME=VALUE."""
    result = run("train", "--param", "C")
    assert result.exit_code == 2
    assert "NAME=VALUE" in result.output


def test_tracking_server_that_does_not_answer(tmp_path):
    """No MLflow at the address exits 5 and names the address."""
    result = CliRunner().invoke(
        app, ["--home", str(tmp_path), "--tracking-uri", "http://127.0.0.1:9", "models", "list"]
    )
    assert result.exit_code == 5
    assert "127.0.0.1:9" in result.output


def test_nothing_served(run, monkeypatch, unused_port):
    """`serve status` exits 5 when nothing answers, and says how to start."""
    monkeypatch.setenv("ATTRITION_SERVE_PORT", str(unused_port))
    result = run("serve", "status")
    assert result.exit_code == 5
    assert "attrition serve up" in result.output


def test_brackets_in_paths_and_names_are_no_markup(capsys):
    """A folder may be called [red]; what is printed is what it is called."""
    say("Wrote /tmp/[red]run[/red]/a.json")
    emit(None, "bundle /tmp/[bold]x")
    captured = capsys.readouterr()
    assert "/tmp/[red]run[/red]/a.json" in captured.err
    assert "/tmp/[bold]x" in captured.out

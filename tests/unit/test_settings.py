"""Settings and configuration files."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from attrition.errors import ConfigError
from attrition.settings import Settings, config_file, load_yaml


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    share: float = 0.5


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = ""
    inner: Inner = Inner()


def test_the_defaults_live_under_one_folder(tmp_path, monkeypatch):
    """Absolute, so that a change of directory moves nothing."""
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment({})
    assert settings.home == tmp_path / ".attrition"
    assert settings.tables == str(settings.home / "tables")
    assert settings.bundles == str(settings.home / "bundles")
    assert settings.key_file == settings.home / "keys" / "pseudonym.key"
    assert settings.person_keys_url == f"sqlite:///{settings.home / 'keys' / 'persons.db'}"
    assert settings.tracking_uri == f"sqlite:///{settings.home / 'mlflow.db'}"
    assert settings.database_url == f"sqlite:///{settings.home / 'governance.db'}"
    assert settings.audit_key_file == settings.home / "keys" / "audit.pem"
    assert settings.artifact_location == (settings.home / "mlartifacts").as_uri()
    assert settings.serve_url == "http://127.0.0.1:8000"


def test_the_environment_overrides_the_defaults_and_arguments_the_environment():
    """Empty variables count as unset."""
    environ = {
        "ATTRITION_HOME": "/srv/a",
        "ATTRITION_SERVE_PORT": "8123",
        "MLFLOW_TRACKING_URI": "",
        "ATTRITION_TABLES": "abfss://x",
    }
    settings = Settings.from_environment(environ, serve_port=9000, experiment=None)
    assert settings.home == Path("/srv/a")
    assert settings.serve_port == 9000
    assert settings.tables == "abfss://x"
    assert settings.tracking_uri.startswith("sqlite:")
    assert settings.experiment == "attrition"


def test_a_process_that_signs_nothing():
    """Where another one signs the audit log; its own key would not be believed."""
    assert Settings.from_environment({"ATTRITION_AUDIT_KEY_FILE": "none"}).audit_key_file is None


def test_our_own_ray_address_wins():
    """RAY_ADDRESS is for all Ray programs, ours is for this one."""
    environ = {"RAY_ADDRESS": "a", "ATTRITION_RAY_ADDRESS": "b"}
    assert Settings.from_environment(environ).ray_address == "b"
    assert Settings.from_environment({"RAY_ADDRESS": "a"}).ray_address == "a"


def test_a_tracking_server_decides_about_its_artifacts():
    """Only an embedded store has a folder of ours."""
    assert Settings.from_environment({"MLFLOW_TRACKING_URI": "http://mlflow"}).artifact_location is None


def test_the_password_of_the_database_is_not_shown():
    """The address may hold one."""
    settings = Settings.from_environment({"ATTRITION_DATABASE_URL": "postgresql://hr:s3cret@db/governance"})
    assert settings.database_url == "postgresql://hr:s3cret@db/governance"
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings)


def test_a_bad_variable_is_named():
    """By the name that the user set."""
    with pytest.raises(ConfigError, match="ATTRITION_SERVE_PORT"):
        Settings.from_environment({"ATTRITION_SERVE_PORT": "eighty"})


def test_folders_from_the_environment_are_made_absolute(tmp_path, monkeypatch):
    """As the working directory and the user's home are now; addresses stay as they are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    settings = Settings.from_environment(
        {"ATTRITION_TABLES": "some/tables", "ATTRITION_BUNDLES": "~/bundles", "ATTRITION_KEY_FILE": "~/a.key"}, home="~"
    )
    assert settings.home == Path("/home/somebody")
    assert settings.tables == str(tmp_path / "some" / "tables")
    assert settings.bundles == "/home/somebody/bundles"
    assert settings.key_file == Path("/home/somebody/a.key")
    assert Settings.from_environment({"ATTRITION_BUNDLES": "s3://b/c"}).bundles == "s3://b/c"


def test_the_home_of_nobody_is_refused():
    """A name behind the tilde that the system does not know."""
    with pytest.raises(ConfigError, match="names no user's home"):
        Settings.from_environment({"ATTRITION_TABLES": "~no-such-user-here/x"})


@pytest.mark.parametrize("port", ["0", "65536", "-1"])
def test_ports_have_a_range(port):
    """A port that cannot be connected to is refused by the variable's name."""
    with pytest.raises(ConfigError, match="ATTRITION_SERVE_PORT"):
        Settings.from_environment({"ATTRITION_SERVE_PORT": port})


def test_yaml_keys_that_stand_twice_are_named(tmp_path):
    """All of them with their lines, at any depth, also inside lists; merged defaults may be overridden."""
    path = tmp_path / "x.yaml"
    path.write_text("name: a\ninner:\n  share: 0.1\n  share: 0.2\nlist: [{b: 1, b: 2}]\nname: c\n")
    with pytest.raises(ConfigError) as caught:
        load_yaml(path, Outer)
    assert [(fault.where.rpartition(", ")[2], fault.found) for fault in caught.value.faults] == [
        ("line 4", "key share stands here a second time"),
        ("line 5", "key b stands here a second time"),
        ("line 6", "key name stands here a second time"),
    ]
    path.write_text("inner: &base {share: 0.1}\n")
    assert load_yaml(path, Outer).inner.share == 0.1
    path.write_text("name: a\ninner:\n  <<: {share: 0.1}\n  share: 0.2\n")
    assert load_yaml(path, Outer).inner.share == 0.2


def test_yaml_faults_are_named_all_at_once(tmp_path):
    """Unknown keys and wrong types, with their paths."""
    path = tmp_path / "x.yaml"
    path.write_text("nane: x\ninner: {share: much, sahre: 1}\n")
    with pytest.raises(ConfigError) as caught:
        load_yaml(path, Outer)
    message = str(caught.value)
    assert "unknown key nane; allowed: name, inner" in message
    assert "inner.share" in message
    assert "unknown key inner.sahre" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "line 1: not valid YAML|line 2: not valid YAML"),
        (b"- a", "holds list"),
        (b"", "holds NoneType"),
        (b"\xff\xfea", "not"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, content, message):
    """One sentence each."""
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_yaml(path, Outer)


def test_a_missing_file_is_named(tmp_path):
    """With the reason of the system."""
    with pytest.raises(ConfigError, match=r"x\.yaml: cannot be read \(No such file"):
        load_yaml(tmp_path / "x.yaml", Outer)


def test_configuration_files_by_path_and_by_name(tmp_path, monkeypatch):
    """The working directory comes before the package."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tune_configs").mkdir()
    own = tmp_path / "tune_configs" / "mine.yaml"
    own.write_text("")
    assert config_file("tune_configs", own) == own
    assert config_file("tune_configs", "mine").resolve() == own
    with pytest.raises(ConfigError, match=r"no such file; shipped in tune_configs: .*mine"):
        config_file("tune_configs", "yours")


def test_relative_databases_are_those_of_the_folder_where_the_command_ran(tmp_path, monkeypatch):
    """Replicas and workers have other working directories; addresses of servers stay."""
    monkeypatch.chdir(tmp_path)
    server = "postgresql://u:p@host/db"
    variables = {
        "ATTRITION_DATABASE_URL": "sqlite:///audit.db?timeout=3",
        "MLFLOW_TRACKING_URI": "sqlite:///sub/mlflow.db",
        "ATTRITION_PERSON_KEYS_URL": server,
    }
    settings = Settings.from_environment(variables)
    assert settings.database_url == f"sqlite:///{tmp_path}/audit.db?timeout=3"
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/sub/mlflow.db"
    assert settings.person_keys_url == server
    absolute = f"sqlite:///{tmp_path}/x.db"
    assert Settings.from_environment({"ATTRITION_DATABASE_URL": absolute}).database_url == absolute

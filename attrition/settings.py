"""Where things live: addresses and folders, from the environment or the embedded defaults under ``./.attrition``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attrition.errors import ConfigError, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GATES, RETRAINING = "gates", "retraining"
"""What the names of gate thresholds and of retraining policies begin with; the files beside them are search plans."""

EXPERIMENT, ROLLOUT = "experiment", "rollout"
"""What the names of experiment and of rollout plans begin with; the files beside them are Serve configurations."""

MODEL_NAME = "employee-attrition-classifier"
"""Name of the registered model in MLflow."""

M = TypeVar("M", bound=BaseModel)

NO_KEY = "none"
"""In place of the file of the key that signs: this process signs nothing."""

_PACKAGE = Path(__file__).parent

# environment variable -> field; the first one set wins
_VARIABLES: tuple[tuple[str, str], ...] = (
    ("ATTRITION_HOME", "home"),
    ("ATTRITION_TABLES", "tables"),
    ("ATTRITION_BUNDLES", "bundles"),
    ("ATTRITION_KEY_FILE", "key_file"),
    ("ATTRITION_PERSON_KEYS_URL", "person_keys_url"),
    ("ATTRITION_DATABASE_URL", "database_url"),
    ("ATTRITION_ALERT_URLS", "alert_urls"),
    ("ATTRITION_PROMETHEUS_URL", "prometheus_url"),
    ("ATTRITION_PROMETHEUS_LABELS", "prometheus_labels"),
    ("ATTRITION_PROMETHEUS_TOKEN", "prometheus_token"),
    ("ATTRITION_PROMETHEUS_TOKEN_FILE", "prometheus_token_file"),
    ("ATTRITION_AUDIT_KEY_FILE", "audit_key_file"),
    ("ATTRITION_AUDIT_EXPORT", "audit_export"),
    ("ATTRITION_EXPERIMENT", "experiment"),
    ("ATTRITION_ACCESS", "access"),
    ("ATTRITION_ACCESS_CONFIG", "access_config"),
    ("ATTRITION_RAY_SERVICE", "ray_service"),
    ("ATTRITION_SERVE_HOST", "serve_host"),
    ("ATTRITION_SERVE_PORT", "serve_port"),
    ("ATTRITION_SERVE_APPLICATION", "serve_application"),
    ("MLFLOW_TRACKING_URI", "tracking_uri"),
    ("ATTRITION_RAY_ADDRESS", "ray_address"),
    ("RAY_ADDRESS", "ray_address"),
)


class Settings(BaseModel):
    """Addresses and folders of one project; everything else is configured in YAML by the stage that reads it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Path(".attrition")
    """Folder of the embedded stores. Relative paths are resolved against the working directory at load."""
    tables: str = ""
    """Folder or URI (``abfss://...``) of the Delta tables; empty means ``home/tables``."""
    bundles: str = ""
    """Folder or URI that serving replicas read verified model versions from; empty means ``home/bundles``."""
    key_file: Path | None = None
    """File of the pseudonym key, created on first use; None means ``home/keys/pseudonym.key``, outside the tables."""
    person_keys_url: str = Field(default="", repr=False)
    """Database of the personal keys, written as `database_url`; empty means SQLite in ``home/keys/persons.db``. Best
    one that the readers of the audit log cannot read."""
    database_url: str = Field(default="", repr=False)
    """Database of the audit log, ``sqlite:///path`` or ``postgresql://user:password@host/database``; empty means SQLite
    in ``home/governance.db``. May hold a password: never printed."""
    audit_key_file: Path | None = None
    """File of the key that signs the audit log's heads, created on first use; None means ``home/keys/audit.pem``. On a
    cluster mount the same one wherever something signs, and say ``none`` where nothing does: heads by another key are
    not believed."""
    audit_export: str = ""
    """Folder or URI that the audit log is exported to by schedule; the monitor looks there. Empty: no such schedule."""
    alert_urls: str = Field(default="", repr=False)
    """Apprise URLs that alerts are sent to, separated by blanks (a URL may hold commas). They hold secrets: never
    printed."""
    prometheus_url: str = Field(default="", repr=False)
    """Prometheus that scrapes Ray, for the errors of an experiment; empty: they are not counted. May hold a password:
    never printed."""
    prometheus_labels: str = ""
    """Matchers that every query gets, such as ``namespace="attrition"``, where it scrapes several clusters."""
    prometheus_token: str = Field(default="", repr=False)
    """Bearer token that it wants, if it wants one. A secret: never printed."""
    prometheus_token_file: Path | None = None
    """File of that token instead, read for every query: such tokens expire, and whoever renews them writes it anew."""
    tracking_uri: str = ""
    """MLflow tracking and registry address; empty means SQLite in ``home/mlflow.db``."""
    experiment: str = "attrition"
    """MLflow experiment of searches and trainings."""
    access: Literal["open", "closed"] = "open"
    """``closed``: who asks needs a key or a token, and a role for it. ``open`` is for a laptop."""
    access_config: Path | None = None
    """YAML file of the identity provider and of an own table of roles; None: API keys and the shipped roles."""
    ray_address: str | None = None
    """Ray cluster to use; None starts an embedded one."""
    ray_service: str | None = None
    """RayService on Kubernetes that serves, ``name`` or ``namespace/name``: traffic changes in its specification then,
    which the operator would otherwise put back. None: Serve is asked itself."""
    serve_host: str = "127.0.0.1"
    """Host under which clients reach the endpoint."""
    serve_port: int = Field(default=8000, ge=1, le=65_535)
    """HTTP port of the endpoint."""
    serve_application: str | None = None
    """Name of the Serve application; None means the one that runs, which must be named only when there are several."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Settings from `environ`, with `overrides` on top and every folder and file made absolute.

        ``~`` is the user's home, relative paths count from the working directory, those of SQLite databases too; other
        addresses (``scheme://...``) stay.

        Parameters
        ----------
        environ
            Defaults to ``os.environ``. Empty variables count as unset.
        **overrides
            Field values that win over the environment; None counts as not given.

        Raises
        ------
        ConfigError
            A value does not have the field's type or range; names the variable.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for variable, field in _VARIABLES:
            if environ.get(variable):
                values.setdefault(field, environ[variable])
        values.update({name: value for name, value in overrides.items() if value is not None})
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            names = {field: variable for variable, field in reversed(_VARIABLES)}
            raise ConfigError(
                Fault(names.get(str(item["loc"][0]), str(item["loc"][0])), item["msg"]) for item in error.errors()
            ) from error
        home = _absolute(settings.home)
        return settings.model_copy(
            update={
                "home": home,
                "tables": _place(settings.tables) or str(home / "tables"),
                "bundles": _place(settings.bundles) or str(home / "bundles"),
                "key_file": _absolute(settings.key_file or home / "keys" / "pseudonym.key"),
                "person_keys_url": _database(settings.person_keys_url) or f"sqlite:///{home / 'keys' / 'persons.db'}",
                "database_url": _database(settings.database_url) or f"sqlite:///{home / 'governance.db'}",
                "access_config": settings.access_config and _absolute(settings.access_config),
                "prometheus_token_file": settings.prometheus_token_file and _absolute(settings.prometheus_token_file),
                "audit_key_file": None
                if settings.audit_key_file == Path(NO_KEY)
                else _absolute(settings.audit_key_file or home / "keys" / "audit.pem"),
                "tracking_uri": _database(settings.tracking_uri) or f"sqlite:///{home / 'mlflow.db'}",
            }
        )

    def prepare_home(self) -> None:
        """Make the folder of the embedded stores, for this user alone: they hold data about people.

        Raises
        ------
        ConfigError
            Its path cannot be a folder, or not one of this user's.
        """
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            found = f"cannot be a folder ({error.strerror})"
            raise ConfigError(
                Fault(f"home {self.home}", found, remedy="name another by --home or ATTRITION_HOME")
            ) from error

    @property
    def artifact_location(self) -> str | None:
        """Folder URI of the artifacts of an embedded MLflow; None when a tracking server decides."""
        if self.tracking_uri.startswith("sqlite:"):
            return (self.home / "mlartifacts").as_uri()
        return None

    @property
    def serve_url(self) -> str:
        """Base URL of the endpoint, without the route prefix of its application."""
        return f"http://{self.serve_host}:{self.serve_port}"


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:  # ~somebody who is not a user here
        raise ConfigError(Fault(str(path), "names no user's home", "", "write the path in full")) from error


def _place(text: str) -> str:
    """A folder made absolute; a URI, or nothing, as it is."""
    return text if "://" in text or not text else str(_absolute(Path(text)))


def _database(text: str) -> str:
    """An address with the file of an SQLite database made absolute; it would be another one in every folder."""
    prefix = "sqlite:///"
    name = text.removeprefix(prefix)
    if name == text or not name or name.startswith((":memory:", "file:")):
        return text
    return f"{prefix}{_absolute(Path(name))}"


def config_file(folder: str, name: str | Path, *, kind: Callable[[str], bool] = lambda _name: True) -> Path:
    """Path of a configuration file given by path (``my/plan.yaml``) or by the name of a shipped one (``smoke``).

    Parameters
    ----------
    folder
        ``tune_configs`` or ``serve_configs``.
    name
        A path is taken as it is; a bare name is looked up in `folder` of the working directory, then of the package.
    kind
        Whether a name in the folder is of the kind that is wanted: what the message lists when nothing is found.

    Raises
    ------
    ConfigError
        Nothing is found; lists the shipped names.
    """
    if Path(name).is_file():
        return Path(name)
    # an editable install keeps the folders beside the package, a wheel inside it
    candidates = [Path(folder), _PACKAGE / "configs" / folder, _PACKAGE.parent / folder]
    if Path(name).name == str(name):
        for directory in candidates:
            path = directory / f"{name}.yaml"
            if path.is_file():
                return path
    shipped = sorted({path.stem for directory in candidates for path in directory.glob("*.yaml") if kind(path.stem)})
    raise ConfigError(
        Fault(
            str(name), "no such file", f"shipped in {folder}: {', '.join(shipped)}", "give a path or one of these names"
        )
    )


def load_yaml(path: Path, model: type[M]) -> M:
    """Read a YAML file into the frozen model that its stage owns.

    Raises
    ------
    ConfigError
        The file is not YAML, holds a key twice, an unknown key or a value out of range; every fault is named with its
        line or key path.
    """
    try:
        # a SafeLoader of ours: it only refuses more
        document = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)  # noqa: S506
    except OSError as error:
        raise ConfigError(Fault(str(path), f"cannot be read ({error.strerror})")) from error
    except _RepeatedKeys as error:
        raise ConfigError(
            Fault(f"{path}, line {line}", f"key {key} stands here a second time", "", "keep one of the two")
            for key, line in error.places
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or "not UTF-8 text"
        raise ConfigError(Fault(where, f"not valid YAML ({problem})")) from error
    if not isinstance(document, dict):
        raise ConfigError(
            Fault(str(path), f"holds {type(document).__name__}", "a mapping of keys to values is expected")
        )
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigError(config_faults(str(path), error, model)) from error


class _RepeatedKeys(Exception):
    """Keys that stand twice in one mapping, with the lines of their second places."""

    def __init__(self, places: list[tuple[str, int]]) -> None:
        super().__init__(places)
        self.places = places


class _StrictLoader(yaml.SafeLoader):
    """A safe loader for which a key that stands twice is a mistake; YAML says so, PyYAML keeps the last one."""

    def construct_document(self, node: Any) -> Any:
        places = sorted(_repeated_keys(node), key=lambda place: place[1])
        if places:
            raise _RepeatedKeys(places)
        return super().construct_document(node)


def _repeated_keys(root: yaml.Node) -> set[tuple[str, int]]:
    found, waiting, visited = set(), [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in visited:  # an alias
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        if not isinstance(node, yaml.MappingNode):
            continue
        keys = set()
        for key, value in node.value:
            waiting += [key, value]
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in keys:
                    found.add((key.value, key.start_mark.line + 1))
                keys.add((key.tag, key.value))
    return found


def config_faults(where: str, error: ValidationError, model: type[BaseModel]) -> list[Fault]:
    """Every fault of a pydantic validation as a readable :class:`~attrition.errors.Fault`."""
    faults = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"]) or "(top level)"
        if item["type"] == "extra_forbidden":
            siblings = ", ".join(model.model_fields) if len(item["loc"]) == 1 else ""
            faults.append(
                Fault(where, f"unknown key {key}", f"allowed: {siblings}" if siblings else "", "check its spelling")
            )
        else:
            faults.append(Fault(where, f"{key}: {item['msg'].removeprefix('Value error, ')}"))
    return faults

"""The connection to MLflow, and the one place where its failures become ours."""

from __future__ import annotations

import logging
import os
import re
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrition.errors import AttritionError, ConfigError, Fault, NotFound, PlatformError, TrackingUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.tracking import MlflowClient

    from attrition.settings import Settings

CONNECT_TIMEOUT_SECONDS = 4.0
"""A tracking server that has not answered by then is called unreachable."""

_OTHER_SERVER = re.compile(r"API request to endpoint \S+ failed with error code (\d+) != 200")
_NO_ANSWER = frozenset({"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"})
"""Codes with which MLflow says that the server or the database did not do its part, whatever was asked."""

_log = logging.getLogger(__name__)


class TrackingClient:
    """MLflow's client, with the same methods; what one raises is of :mod:`attrition.errors`.

    ``NotFound`` for what does not exist, ``TrackingUnreachable`` for a store that does not answer, ``PlatformError``
    for one that refuses; see :func:`answering`.

    Parameters
    ----------
    client
        MLflow's own.
    address
        Of the store, for messages.
    """

    def __init__(self, client: MlflowClient, address: str) -> None:
        self._client = client
        self._address = address

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            with answering(self._address):
                return method(*args, **kwargs)

        return call


@contextmanager
def answering(address: str) -> Iterator[None]:
    """A context in which MLflow is called.

    Parameters
    ----------
    address
        Of what is asked; a password in it is not repeated.

    Raises
    ------
    NotFound
        MLflow says that something does not exist.
    TrackingUnreachable
        Server, database or artifact store do not answer, or cannot be written.
    PlatformError
        MLflow refuses the request.
    """
    try:
        yield
    except AttritionError:
        raise
    except Exception as error:
        ours = _translated(error, _without_secret(address))
        if ours is None:
            raise
        raise ours from error


def connect(settings: Settings) -> TrackingClient:
    """A client of the tracking store, whose experiment exists afterwards.

    Parameters
    ----------
    settings
        ``tracking_uri`` is an address (``http``, ``https``), which is probed first, or a database.

    Raises
    ------
    TrackingUnreachable
        No answer within `CONNECT_TIMEOUT_SECONDS`, or a store that cannot be opened or written.
    """
    uri = settings.tracking_uri
    # employee data stay where they are; usage statistics would leave the machine
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    probe(settings)
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with answering(uri):
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        client = TrackingClient(MlflowClient(tracking_uri=uri, registry_uri=uri), uri)
    experiment_id(client, settings)
    return client


def experiment_id(client: TrackingClient, settings: Settings) -> str:
    """Id of the project's experiment, created or restored when needed."""
    experiment = client.get_experiment_by_name(settings.experiment)
    if experiment is None:
        try:
            return str(client.create_experiment(settings.experiment, artifact_location=settings.artifact_location))
        except PlatformError:
            # another process was faster
            experiment = client.get_experiment_by_name(settings.experiment)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


@contextmanager
def ended(client: TrackingClient, run_id: str, *, success: bool = True) -> Iterator[None]:
    """A context whose end is the end of a run: ``FINISHED``, ``FAILED`` on an error, ``KILLED`` on an interrupt.

    Parameters
    ----------
    success
        False leaves the run running when nothing goes wrong: another part of the work follows.

    Raises
    ------
    PlatformError
        The run cannot be marked as finished. A run that failed is marked if MLflow answers; the error is what counts.
    """
    try:
        yield
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        try:
            client.set_terminated(run_id, status)
        except AttritionError as unheard:
            _log.warning("run %s is not marked as %s in MLflow (%s)", run_id, status, type(unheard).__name__)
        raise
    if success:
        client.set_terminated(run_id, "FINISHED")


def _translated(error: Exception, address: str) -> AttritionError | None:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    said = _first_line(error)
    if isinstance(error, MlflowException):
        other = _OTHER_SERVER.match(said)
        if other:
            found = f"is no MLflow server: it answers {other[1]} to what MLflow asks"
            return TrackingUnreachable(_unreachable(address, found))
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return NotFound(Fault(address, said))
        if error.error_code not in _NO_ANSWER:
            return PlatformError(Fault(address, f"MLflow refuses ({said})"))
    if isinstance(error, (MlflowException, SQLAlchemyError, OSError)):
        return TrackingUnreachable(_unreachable(address, f"cannot be used ({said})"))
    return None


def probe(settings: Settings) -> None:
    """Return when a tracking server or PostgreSQL answers, or when neither is used; makes nothing.

    Raises
    ------
    ConfigError
        The address is a folder: MLflow gave up that store.
    TrackingUnreachable
        Server or database does not answer in time, or answers with an error. MLflow itself would try for minutes.
    """
    import httpx

    uri = settings.tracking_uri
    is_folder = uri.startswith("file:") or ("://" not in uri and uri not in {"databricks", "uc"})
    if is_folder and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() != "true":
        forms = "http://HOST:PORT of an MLflow server, sqlite:///FILE or postgresql://... is expected"
        raise ConfigError(
            Fault(f"MLFLOW_TRACKING_URI {uri}", "names a folder, which MLflow keeps no runs in any more", forms)
        )
    if uri.startswith(("postgresql:", "postgresql+", "postgres:")):
        _probe_database(uri)
    if not uri.startswith(("http://", "https://")):
        return
    try:
        answer = httpx.get(f"{uri.rstrip('/')}/health", timeout=CONNECT_TIMEOUT_SECONDS, follow_redirects=True)
    except httpx.HTTPError as error:
        raise TrackingUnreachable(_unreachable(uri, "no MLflow server answers")) from error
    if answer.status_code >= 500:
        raise TrackingUnreachable(_unreachable(uri, f"the MLflow server answers {answer.status_code}"))


def _probe_database(uri: str) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
    from sqlalchemy.pool import NullPool

    timeout = {"connect_timeout": max(2, round(CONNECT_TIMEOUT_SECONDS))}  # libpq takes less for 2
    try:
        create_engine(uri, poolclass=NullPool, connect_args=timeout).connect().close()
    except ModuleNotFoundError as error:
        remedy = "pip install 'attrition[postgres]' and write postgresql+psycopg://..."
        raise ConfigError(Fault("MLFLOW_TRACKING_URI", "needs the driver of PostgreSQL", "", remedy)) from error
    except (ArgumentError, NoSuchModuleError, ValueError):  # whose words may repeat a password
        forms = "postgresql+psycopg://user:password@host/database"
        raise ConfigError(Fault("MLFLOW_TRACKING_URI", "is no address of a database", forms)) from None
    except SQLAlchemyError as error:
        raise TrackingUnreachable(_unreachable(uri, "the database does not answer")) from error


def _unreachable(uri: str, found: str) -> Fault:
    remedy = "start it or make it writable, or correct MLFLOW_TRACKING_URI; without that a local database is used"
    return Fault(_without_secret(uri), found, remedy=remedy)


def _without_secret(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

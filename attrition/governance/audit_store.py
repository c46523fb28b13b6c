"""Where the events lie: one table in SQLite or PostgreSQL, and one for the signed heads.

Writers take turns by transaction (``BEGIN IMMEDIATE``, or an advisory lock that ends with the transaction), so the
sequence has no gaps and follows the order of the commits. Triggers refuse to change or remove a row. Whoever owns the
database can drop them; they are the barrier against accidents, the chain is the one against intent.
"""

from __future__ import annotations

import contextlib
import os
import time
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event as sa_event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from attrition.errors import AuditUnavailable, ConfigError, Fault
from attrition.governance.audit_chain import GENESIS, Mark, canonical, parse, seal
from attrition.governance.audit_heads import Head

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from sqlalchemy.engine import URL, Connection, Engine, RowMapping

CONNECT_SECONDS = 5
"""How long a connection may take before the database counts as down."""
LOCK_SECONDS = 30
"""How long a writer waits for its turn."""

_LOCK = int.from_bytes(sha256(b"attrition/audit/lock").digest()[:8], "big", signed=True)
_POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")
_BATCH = 1_000
_SYNC_FULL = "PRAGMA synchronous=FULL"  # in WAL mode the default may lose the last commits with the power

# SQLite holds any value in a column of another name, but only integers in this one
_Sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_metadata = sa.MetaData()
EVENTS = sa.Table(
    "audit_events",
    _metadata,
    sa.Column("sequence", _Sequence, primary_key=True, autoincrement=False),
    sa.Column("time", sa.Text, nullable=False, index=True),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False, index=True),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False, index=True),
    sa.Column("justification", sa.Text),
    sa.Column("model_version", sa.Text),
    sa.Column("data_version", sa.Text),
    sa.Column("client_address", sa.Text),
    sa.Column("correlation", sa.Text, nullable=False, index=True),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("previous", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
)
HEADS = sa.Table(
    "audit_heads",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("sequence", sa.BigInteger, nullable=False, index=True),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("public_key", sa.Text, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
)


class AuditStore:
    """The tables at an address; connects on first use.

    Parameters
    ----------
    url
        ``sqlite:///path`` or ``postgresql://user:password@host/database``.

    Raises
    ------
    ConfigError
        Another kind of address, or the driver of PostgreSQL is not installed.
    """

    def __init__(self, url: str) -> None:
        self._url = _parsed(url)
        self.address = self._url.set(query={}).render_as_string(hide_password=True)
        self._engine = _engine(self._url)
        self._prepared = False
        self._process = os.getpid()

    def close(self) -> None:
        """Close the connections. Harmless when repeated."""
        self._engine.dispose()

    def append(self, content: Callable[[int], Mapping[str, Any]]) -> dict[str, Any]:
        """Store one event after all others, durably; the stored document.

        Parameters
        ----------
        content
            From the sequence of the event to its keys :data:`~attrition.governance.audit_chain.CONTENT`; called while
            the writer has its turn.
        """
        with self._transaction(write=True) as connection:
            last = _end(connection)
            document = seal(last.hash, content(last.sequence + 1))
            row = {**document, "details": canonical(document["details"]).decode()}
            connection.execute(EVENTS.insert(), row)
        return document

    def add_head(self, head: Head) -> None:
        """Store a signed head."""
        with self._transaction(write=True) as connection:
            row = head.to_dict()
            del row["format"]
            connection.execute(HEADS.insert(), row)

    def end(self) -> Mark:
        """Sequence and hash of the last event; 0 and the hash before the first when there is none."""
        with self._transaction() as connection:
            return _end(connection)

    def hash_of(self, sequence: int) -> str | None:
        """Hash of an event, for 0 the one before the first; None when there is no such event."""
        if sequence == 0:
            return GENESIS
        query = sa.select(EVENTS.c.hash).where(EVENTS.c.sequence == sequence)
        with self._transaction() as connection:
            found: str | None = connection.execute(query).scalar_one_or_none()
        return found

    def heads(self, *, newest: int | None = None) -> list[Head]:
        """All heads, or the newest ones, in the order in which they were signed."""
        query = sa.select(*(HEADS.c[name] for name in Head.__slots__)).order_by(HEADS.c.id.desc()).limit(newest)
        with self._transaction() as connection:
            return [Head(**row) for row in connection.execute(query).mappings()][::-1]

    def documents(
        self, conditions: Mapping[str, str] | None = None, *, first: int = 1, last: int | None = None
    ) -> Generator[dict[str, Any], None, None]:
        """Events by sequence, read in batches.

        Parameters
        ----------
        conditions
            Column and the value that it must have. ``since`` and ``until`` bound the time, which is text;
            ``unfinished`` names the outcome of a start, and takes those whose correlation has no other outcome.
        """
        query = _where(sa.select(EVENTS), conditions or {}).where(EVENTS.c.sequence >= first)
        if last is not None:
            query = query.where(EVENTS.c.sequence <= last)
        with self._transaction() as connection:
            stream = connection.execution_options(yield_per=_BATCH)
            with stream.execute(query.order_by(EVENTS.c.sequence)) as rows:  # closes the cursor of whoever stops early
                for row in rows.mappings():
                    yield _document(row)

    def newest(self, conditions: Mapping[str, str], limit: int) -> list[dict[str, Any]]:
        """The last `limit` events that fit, the oldest of them first; conditions as in :meth:`documents`."""
        query = _where(sa.select(EVENTS), conditions).order_by(EVENTS.c.sequence.desc()).limit(limit)
        with self._transaction() as connection:
            return [_document(row) for row in connection.execute(query).mappings()][::-1]

    @contextlib.contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[Connection]:
        if self._process != os.getpid():  # forked: the connections belong to the parent
            self._engine.dispose(close=False)
            self._process = os.getpid()
        try:
            self._prepare()
            options = self._engine.execution_options(audit_write=write)
            with options.begin() as connection:
                if write and not self._embedded:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
                yield connection
        except SQLAlchemyError as error:
            raise self._unavailable(error) from error

    @property
    def _embedded(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    def _prepare(self) -> None:
        """Create tables and triggers unless they are there; a reader needs no right to create them."""
        if self._prepared:
            return
        if self._embedded:
            _private_file(self._url)
        names = set(sa.inspect(self._engine).get_table_names())
        if not {EVENTS.name, HEADS.name} <= names:
            _patiently(self._create)
        self._prepared = True

    def _create(self) -> None:
        from attrition.governance.audit_barriers import barriers

        if self._embedded:
            with closing(self._engine.raw_connection()) as raw:
                raw.cursor().execute("PRAGMA journal_mode=WAL")  # stays with the file
        with self._engine.execution_options(audit_write=True).begin() as connection:
            if not self._embedded:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            if EVENTS.name in sa.inspect(connection).get_table_names():
                return  # another process was faster
            _metadata.create_all(connection)
            for statement in barriers(self._url.get_backend_name(), EVENTS.name, HEADS.name):
                connection.exec_driver_sql(statement)

    def _unavailable(self, error: SQLAlchemyError) -> AuditUnavailable:
        cause = getattr(error, "orig", None) or error
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        why = lines[0]
        if self._url.password:
            why = why.replace(str(self._url.password), "***")
        remedy = "nothing is done that cannot be recorded: check the database and ATTRITION_DATABASE_URL"
        return AuditUnavailable(Fault(f"audit log {self.address}", f"does not answer ({why})", "", remedy))


def _parsed(text: str) -> URL:
    allowed = "sqlite:///path or postgresql://user:password@host/database"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # whose words may repeat a password
        raise ConfigError(Fault("ATTRITION_DATABASE_URL", "is no address of a database", allowed)) from None
    if url.host and "@" in url.host:  # the rest of a password that holds this character: it must not be repeated
        remedy = "write it as %40"
        raise ConfigError(Fault("ATTRITION_DATABASE_URL", "has a password with an @ in it", allowed, remedy))
    if url.drivername == "sqlite" and url.database and url.database != ":memory:":
        return url
    if url.drivername in _POSTGRESQL and (url.host or url.query.get("host")):
        return url.set(drivername=_POSTGRESQL[-1])
    found = {"sqlite": "names no file", **dict.fromkeys(_POSTGRESQL, "names no host")}
    raise ConfigError(
        Fault("ATTRITION_DATABASE_URL", found.get(url.drivername, f"begins with {url.drivername}"), allowed)
    )


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": LOCK_SECONDS}, hide_parameters=True)
        sa_event.listen(engine, "connect", _on_sqlite_connect)
        sa_event.listen(engine, "begin", _on_sqlite_begin)
        return engine
    options = {
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": 1_000 * LOCK_SECONDS,  # a host that vanished must not be waited for
        "application_name": "attrition audit",
    }
    try:
        engine = sa.create_engine(
            url,
            connect_args={name: value for name, value in options.items() if name not in url.query},
            hide_parameters=True,
            isolation_level="READ COMMITTED",  # who waited for the lock must see what was committed meanwhile
            pool_pre_ping=True,
            pool_timeout=LOCK_SECONDS,
        )
    except ModuleNotFoundError as error:
        remedy = "pip install 'attrition[postgres]'"
        raise ConfigError(Fault("ATTRITION_DATABASE_URL", "needs the driver of PostgreSQL", "", remedy)) from error
    sa_event.listen(engine, "connect", _on_postgres_connect)
    return engine


def _on_sqlite_connect(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver begins no transaction of its own; _on_sqlite_begin does
    connection.execute(_SYNC_FULL)


def _on_sqlite_begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("audit_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _on_postgres_connect(connection: Any, _: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
    connection.commit()


def _patiently(create: Callable[[], None]) -> None:
    """Repeat while another process holds the new file: SQLite does not wait when it changes its journal's mode."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return create()
        except OperationalError as error:
            if "locked" not in str(error.orig) or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _private_file(url: URL) -> None:
    path = Path(str(url.database))
    with contextlib.suppress(OSError):  # the connection says what is wrong, if something is
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # only a new file: closing any descriptor of an open database drops this process's locks on it (POSIX), and
        # another process would then remove the log that its transactions are in
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _end(connection: Connection) -> Mark:
    query = sa.select(EVENTS.c.sequence, EVENTS.c.hash).order_by(EVENTS.c.sequence.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return Mark(0, GENESIS) if row is None else Mark(row.sequence, row.hash)


def _where(query: Any, conditions: Mapping[str, str]) -> Any:
    for name, value in conditions.items():
        if name == "since":
            query = query.where(EVENTS.c.time >= value)
        elif name == "until":
            query = query.where(EVENTS.c.time < value)
        elif name == "unfinished":
            end = EVENTS.alias()
            ended = sa.exists().where(end.c.correlation == EVENTS.c.correlation, end.c.outcome != value)
            query = query.where(EVENTS.c.outcome == value, ~ended)
        else:
            query = query.where(EVENTS.c[name] == value)
    return query


def _document(row: RowMapping) -> dict[str, Any]:
    """The event of a row; details that are not the canonical text stay text, which no hash fits."""
    document: dict[str, Any] = {str(name): value for name, value in row.items()}
    with contextlib.suppress(ValueError, TypeError):
        details = parse(document["details"])
        if canonical(details).decode() == document["details"]:
            document["details"] = details
    return document

"""Statements that make a database refuse to change or remove what was recorded."""

from __future__ import annotations

_MESSAGE = "the audit log is append-only"


def barriers(backend: str, events: str, heads: str) -> list[str]:
    """Statements that add the triggers to the two new tables.

    Parameters
    ----------
    backend
        ``sqlite`` or ``postgresql``.
    events, heads
        Names of the tables.
    """
    return _sqlite(events, heads) if backend == "sqlite" else _postgresql(events, heads)


def _sqlite(events: str, heads: str) -> list[str]:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{_MESSAGE}'); END"
    statements = [
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} {refuse}"
        for table in (events, heads)
        for verb in ("UPDATE", "DELETE")
    ]
    # INSERT OR REPLACE removes the old row without firing the trigger for DELETE
    next_one = f"NEW.sequence IS NOT (SELECT coalesce(max(sequence), 0) + 1 FROM {events})"  # noqa: S608 (our own names)
    statements.append(f"CREATE TRIGGER {events}_in_order BEFORE INSERT ON {events} WHEN {next_one} {refuse}")
    taken = f"EXISTS (SELECT 1 FROM {heads} WHERE id = NEW.id)"  # noqa: S608
    statements.append(f"CREATE TRIGGER {heads}_no_replace BEFORE INSERT ON {heads} WHEN {taken} {refuse}")
    return statements


def _postgresql(events: str, heads: str) -> list[str]:
    function = f"{events}_refuse"
    body = f"$$ BEGIN RAISE EXCEPTION '{_MESSAGE}'; END $$"
    statements = [f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS {body}"]
    for table in (events, heads):
        for verb, each in (("UPDATE OR DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
            name = f"{table}_no_{verb.split()[0].lower()}"
            statements.append(
                f"CREATE TRIGGER {name} BEFORE {verb} ON {table} FOR EACH {each} EXECUTE FUNCTION {function}()"
            )
    return statements

"""Tables as MLflow's scoring protocol writes them: by row, by column, split into names and values, or as CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from typing import TYPE_CHECKING, Any

from attrition.data.schema import EMPLOYEE_ID
from attrition.serving.protocols.problems import FieldError, Problem, malformed, pointer
from attrition.serving.protocols.translation import BEYOND_FLOAT, Rows, column_errors, kind, shown, too_many

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attrition.data.schema import FeatureSchema
    from attrition.serving.records import RecordCodec

_SPLIT_KEYS = ("columns", "data", "index")
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")
_WHOLE_ID = re.compile(r"([0-9]+)\.0+")
_BOOLEANS = {"True": True, "true": True, "False": False, "false": False}


def broken(*errors: FieldError) -> Rows:
    """A table of which nothing can be read."""
    return Rows([], lambda _row, _field: None, errors)


def from_split(table: Any, codec: RecordCodec, key: str) -> Rows | Problem:
    """Rows of ``{"columns": [...], "data": [[...]], "index": [...]}``; without columns, features in schema order."""
    if not isinstance(table, dict):
        return broken(FieldError(pointer(key), f"is {kind(table)}; an object with columns and data is expected"))
    errors = []
    if any(part not in _SPLIT_KEYS for part in table):
        errors.append(FieldError(pointer(key), f"has an unknown key; known: {', '.join(_SPLIT_KEYS)}"))
    columns = table.get("columns", list(codec.schema.names))
    if not isinstance(columns, list):
        errors.append(FieldError(pointer(key, "columns"), f"is {kind(columns)}; an array of names is expected"))
        columns = []
    else:
        errors += column_errors(codec.schema, columns, lambda at: pointer(key, "columns", at), pointer(key, "columns"))
    data = table.get("data")
    if not isinstance(data, list) or not data:
        errors.append(FieldError(pointer(key, "data"), "is an array of rows, at least one"))
        return broken(*errors)
    if not columns:
        return broken(*errors)
    return _positional(data, columns, codec, (key, "data"), errors)


def from_records(table: Any, codec: RecordCodec, key: str) -> Rows | Problem:
    """Rows of an array of objects."""
    if isinstance(table, list) and table:
        return too_many(len(table), codec.max_records) or Rows(
            table, lambda row, field: pointer(key, row, *(() if field is None else (field,)))
        )
    return broken(FieldError(pointer(key), f"{_what(table)}; an array of records is expected, at least one"))


def from_rows(table: Any, codec: RecordCodec, key: str) -> Rows | Problem:
    """Rows of an array of objects, or of arrays with the features in schema order."""
    if not isinstance(table, list) or not table or not all(isinstance(row, list) for row in table):
        return from_records(table, codec, key)
    return _positional(table, codec.schema.names, codec, (key,), [])


def from_inputs(table: Any, codec: RecordCodec, key: str) -> Rows | Problem:
    """Rows of an object of columns, or of what :func:`from_rows` reads."""
    if not isinstance(table, dict):
        return from_rows(table, codec, key)
    names = list(table)
    schema = codec.schema
    errors = column_errors(schema, names, lambda at: pointer(key, shown(names[at])), pointer(key))
    known = {name: values for name, values in table.items() if name in {EMPLOYEE_ID, *schema.names}}
    lists = {name: values for name, values in known.items() if isinstance(values, list) and values}
    n = len(next(iter(lists.values()), []))
    excess = too_many(n, codec.max_records)
    if excess:
        return excess
    for name, values in known.items():
        if name not in lists:
            detail = f"{_what(values)}; an array of values is expected, at least one"
            errors.append(FieldError(pointer(key, name), detail))
        elif len(values) != n:
            errors.append(FieldError(pointer(key, name), f"has {len(values)} values; the first column has {n}"))
    whole = {name: values for name, values in lists.items() if len(values) == n}
    records = [dict(zip(whole, values, strict=True)) for values in zip(*whole.values(), strict=True)]

    def place(row: int, field: str | None) -> str | None:
        if field is None:
            return pointer(key)
        return pointer(key, field, row) if field in whole else None

    return Rows(records, place, tuple(errors))


def from_csv(body: bytes, codec: RecordCodec) -> Rows | Problem:
    """Rows of comma-separated values with a header line, as ``DataFrame.to_csv(index=False)`` writes them.

    The places are ``/header/<column>`` and ``/rows/<row>/<name>``, both counted from 0; empty lines do not count.
    """
    try:
        lines = [cells for cells in csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True) if cells]
    except UnicodeDecodeError as error:
        return malformed(f"the body is not UTF-8 (byte {error.start})")
    except csv.Error as error:
        return malformed(f"the body is not CSV: {error}")
    if not lines:
        return malformed("the body is empty")
    excess = too_many(len(lines) - 1, codec.max_records)
    if excess:
        return excess
    names = [name.strip() for name in lines[0]]
    errors = column_errors(codec.schema, names, lambda at: pointer("header", at), pointer("header"))
    if len(lines) == 1:
        return broken(*errors, FieldError(pointer("rows"), "is empty; at least one line is expected below the header"))
    is_id = [name == EMPLOYEE_ID for name in names]
    rows = [list(map(_cell, cells, is_id)) if len(cells) == len(names) else cells for cells in lines[1:]]
    return _positional(rows, names, codec, ("rows",), errors, by_name=True)


def _positional(
    data: Sequence[Any],
    names: Sequence[Any],
    codec: RecordCodec,
    where: tuple[str, ...],
    errors: list[FieldError],
    *,
    by_name: bool = False,
) -> Rows | Problem:
    """Rows whose values stand in the order of `names`; a place ends with the column's number, or with its name."""
    excess = too_many(len(data), codec.max_records)
    if excess:
        return excess
    known = _known(names, codec.schema)
    kept = []
    for at, row in enumerate(data):
        if isinstance(row, list) and len(row) == len(names):
            kept.append(at)
        else:
            found = f"has {len(row)} values" if isinstance(row, list) else f"is {kind(row)}"
            errors.append(FieldError(pointer(*where, at), f"{found}; a row has {len(names)}, one per column"))
    records = [{name: data[at][column] for name, column in known.items()} for at in kept]

    def place(row: int, field: str | None) -> str | None:
        if field is None:
            return pointer(*where, kept[row])
        return pointer(*where, kept[row], field if by_name else known[field]) if field in known else None

    return Rows(records, place, tuple(errors))


def _known(names: Sequence[Any], schema: FeatureSchema) -> dict[str, int]:
    """Column of each name that a record may have; the first where a name is given twice."""
    known: dict[str, int] = {}
    for column, name in enumerate(names):
        if isinstance(name, str) and name in {EMPLOYEE_ID, *schema.names}:
            known.setdefault(name, column)
    return known


def _cell(cell: str, is_id: bool) -> Any:
    """Value of a CSV cell; text that is no number stays text, for the record decoder to complain about."""
    if not cell:
        return None
    if is_id:
        # what pandas makes of whole numbers when one is missing
        match = _WHOLE_ID.fullmatch(cell)
        return match[1] if match else cell
    if _NUMBER.fullmatch(cell):
        number = float(cell)
        return number if math.isfinite(number) else BEYOND_FLOAT
    return _BOOLEANS.get(cell.strip(), cell)


def _what(value: Any) -> str:
    return "is empty" if value in ([], {}) else f"is {kind(value)}"

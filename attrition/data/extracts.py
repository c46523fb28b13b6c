"""An HR extract as an employee table: read, mapped to canonical names and units, pseudonymised; or refused as a whole.

Whatever is wrong with a file is reported in one error, by column, count and line. Behind this module nobody meets an
employee's number: it is replaced by its pseudonym in the table and in the raw frame alike.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from attrition.data.cells import LISTED_LABELS, Cells, to_text
from attrition.data.employees import EmployeeTable
from attrition.data.findings import Finding, Severity
from attrition.data.mapping import ColumnSpec, Mapping, load_mapping, shipped_mappings, suggestion
from attrition.data.readers import NO_HEADER_REMEDY, RawFile, names_columns, read_file
from attrition.data.schema import EMPLOYEE_ID, SNAPSHOT_DATE, TARGET, FeatureSchema
from attrition.errors import ConfigError, ExtractError, Fault, InsufficientData
from attrition.governance.identity import REPEAT_MARK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attrition.governance.privacy import PseudonymKey

__all__ = ["Extract", "Mapping", "load_mapping", "read_extract"]

MINIMUM_ROWS = 100
"""Rows that an extract with outcomes needs. Below it a holdout of a quarter has so few leavers that every interval
is as wide as the scale; more is needed for a useful model, which the gates decide."""
CATEGORY_LABELS = 50
CATEGORY_ROWS = 5
"""Texts are quoted in a finding when they look like labels of a category: at most so many different ones, each in at
least so many rows. Rarer texts may be names, or whatever somebody typed about a person."""
MINIMUM_PER_OUTCOME = 10
"""Leavers, and stayers, that an extract with outcomes needs: two for each of five folds."""
UNKNOWN = "unknown"
"""Group of a row whose sensitive attribute is missing."""


@dataclass(frozen=True, slots=True)
class Extract:
    """An extract that was read.

    Attributes
    ----------
    table : EmployeeTable
        In canonical names and units, rows in the order of the file.
    raw : DataFrame
        All columns as read, ids pseudonymised: for checks of columns that no feature uses. Never stored.
    mapping : Mapping
    path : Path
    unmapped : tuple of str
        Columns of the file that the mapping does not use.
    findings : tuple of Finding
        What reading noticed; part of the quality report.
    """

    table: EmployeeTable
    raw: pd.DataFrame
    mapping: Mapping
    path: Path
    unmapped: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = field(default=())

    def take(self, rows: NDArray[np.bool_]) -> Extract:
        """The rows under a mask, of shape (n_rows,)."""
        return replace(self, table=self.table.take(rows), raw=self.raw[rows].reset_index(drop=True))


def read_extract(
    path: Path | str,
    mapping: Mapping | str | Path | None,
    key: PseudonymKey,
    schema: FeatureSchema | None = None,
    *,
    require_target: bool = True,
) -> Extract:
    """Employee table of a CSV, CSV.gz or Parquet file, a folder of Parquet files or a Delta table.

    Parameters
    ----------
    path
        Of the extract.
    mapping
        A mapping, the name of a shipped one or the path of a YAML file. None: the extract has canonical names.
    key
        Of the pseudonyms.
    schema
        Features to read; None is the packaged default. Features that the mapping declares absent are left out.
    require_target
        False: for scoring. Outcomes may then be missing, and a handful of rows is enough.

    Raises
    ------
    ConfigError
        The mapping is faulty or does not fit the schema.
    ExtractError
        The file does not yield a table; all faults at once.
    InsufficientData
        With `require_target`: fewer than `MINIMUM_ROWS` rows, or of one outcome fewer than `MINIMUM_PER_OUTCOME`.
    """
    path = Path(path)
    if mapping is None:
        mapping = load_mapping("workforce") if schema is None else Mapping.identity(schema)
    elif not isinstance(mapping, Mapping):
        mapping = load_mapping(mapping)
    schema = mapping.schema_for(schema or FeatureSchema.default())
    file = read_file(path, mapping.dialect, mapping.sources)
    specs = _present(mapping, file.frame, path.name, require_target=require_target)
    reading = _Reading(file, mapping, path.name)
    frame = reading.frame(specs, schema, key)
    present = schema.without(*(name for name in schema.names if name not in specs))
    sensitive = tuple(name for name in mapping.sensitive if name in specs)
    surrogate = EMPLOYEE_ID not in specs
    table = EmployeeTable.of(frame, present, sensitive=sensitive, surrogate_ids=surrogate, source=path.name)
    if require_target:
        _check_enough(table, path.name)
    raw = file.frame
    if mapping.employee_id.column is not None:
        raw = raw.assign(**{mapping.employee_id.column: table.frame[EMPLOYEE_ID]})
    unmapped = tuple(name for name in raw.columns if name not in mapping.sources)
    return Extract(table, raw, mapping, path, unmapped, tuple(reading.findings))


def _present(mapping: Mapping, raw: pd.DataFrame, where: str, *, require_target: bool) -> dict[str, ColumnSpec]:
    """Specs of the canonical columns that the file yields.

    Raises ExtractError naming every column that the mapping needs and the file lacks.
    """
    specs, faults, reported = {}, [], set()
    known = [str(name) for name in raw.columns] if names_columns(raw.columns, mapping.sources) else []
    for name, spec in mapping.specs.items():
        lacking = [column for column in spec.columns if column not in raw.columns]
        if spec.absent or (lacking and (spec.optional or (name == TARGET and not require_target))):
            continue
        specs[name] = spec
        for column in lacking:
            if column not in reported:
                reported.add(column)
                remedy = suggestion(column, known) or "correct the mapping, or declare it absent: true"
                faults.append(
                    Fault(where, f"has no column {column}", f"mapping {mapping.name} reads {name} from it", remedy)
                )
    if require_target and TARGET not in specs:
        faults.append(
            Fault(f"mapping {mapping.name}", "target is absent", "", "training needs outcomes: name their column")
        )
    if not set(specs) & set(mapping.features) and not faults:
        faults.append(
            Fault(f"mapping {mapping.name}", "every feature is absent", "", "name the column of at least one")
        )
    if faults:
        raise ExtractError([_whereabouts(raw, known, where), *faults] if reported else faults)
    return specs


def _whereabouts(raw: pd.DataFrame, known: list[str], where: str) -> Fault:
    """What the file has instead, and the shipped mapping that fits it; names only where they are known to be names."""
    fitting = [name for name in shipped_mappings() if set(raw.columns).issuperset(load_mapping(name).sources)]
    if not known:
        remedy = NO_HEADER_REMEDY
        found = f"the first line of its {len(raw.columns)} columns holds other things than the names expected"
    else:
        remedy = ""
        found = "its columns are " + ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return Fault(where, found, "", f"mapping {fitting[0]} fits them" if fitting else remedy)


def _check_enough(table: EmployeeTable, where: str) -> None:
    n_leavers = int(table.target.sum())
    n_stayers = len(table) - n_leavers
    faults = []
    if len(table) < MINIMUM_ROWS:
        faults.append(
            Fault(
                where, f"has {len(table)} rows", f"at least {MINIMUM_ROWS} are needed", "export more persons or dates"
            )
        )
    if not (n_leavers and n_stayers):
        only = "stayed" if n_stayers else "left"
        faults.append(
            Fault(where, f"everybody {only}: all {len(table)} outcomes are equal", "both outcomes are needed")
        )
    elif min(n_leavers, n_stayers) < MINIMUM_PER_OUTCOME:
        faults.append(
            Fault(
                where, f"has {n_leavers} leavers and {n_stayers} stayers", f"{MINIMUM_PER_OUTCOME} of each are needed"
            )
        )
    if faults:
        raise InsufficientData(faults)


class _Reading:
    """Canonical columns of one raw file; gathers faults and findings over all of them."""

    def __init__(self, file: RawFile, mapping: Mapping, where: str) -> None:
        self.findings: list[Finding] = []
        self._raw = file.frame
        self._mapping = mapping
        self._where = where
        self._cells = Cells(file.frame, mapping.dialect, where=where, first_line=file.first_line)

    def frame(self, specs: dict[str, ColumnSpec], schema: FeatureSchema, key: PseudonymKey) -> pd.DataFrame:
        """Frame of every column in `specs`; ExtractError with all faults when a cell cannot be read."""
        columns: dict[str, Any] = {SNAPSHOT_DATE: self._snapshot_date(specs.get(SNAPSHOT_DATE))}
        if EMPLOYEE_ID in specs:
            columns[EMPLOYEE_ID] = self._pseudonyms(specs[EMPLOYEE_ID], key)
        for name in schema.names:
            if name in specs:
                columns[name] = self._numbers(specs[name], name)
        if TARGET in specs:
            columns[TARGET] = self._target(specs[TARGET])
        for name in self._mapping.sensitive:
            if name in specs:
                text = self._cells.text(specs[name].columns[0])
                columns[name] = np.where(pd.isna(text), UNKNOWN, text)
        if self._cells.faults:
            raise ExtractError(self._cells.faults)
        if EMPLOYEE_ID not in specs:
            columns[EMPLOYEE_ID] = surrogate_ids(self._raw, key)
        return pd.DataFrame(columns)

    def _fault(self, column: str, rows: NDArray[np.bool_], found: str, remedy: str = "") -> None:
        n_rows = int(rows.sum())
        if n_rows:
            place = self._cells.place(rows)
            self._cells.faults.append(
                Fault(f"{self._where}: {column}", f"{n_rows} of {len(rows)} {found} ({place})", "", remedy)
            )

    def _snapshot_date(self, spec: ColumnSpec | None) -> NDArray[np.datetime64]:
        n_rows = len(self._raw)
        if spec is None:
            return np.full(n_rows, np.datetime64("NaT", "us"))
        if spec.column is not None:
            dates = self._cells.dates(spec.column, spec.date_format)
        elif spec.constant is not None:
            dates = np.full(n_rows, np.datetime64(str(spec.constant), "us"))
        else:
            dates = self._evaluate(spec, SNAPSHOT_DATE)
            if dates.dtype.kind != "M":
                raise ConfigError(
                    Fault(f"mapping {self._mapping.name}", "snapshot_date: derive yields numbers", "a date is needed")
                )
            dates = np.broadcast_to(dates, n_rows).copy()
        if not self._cells.faults:
            self._fault(
                "snapshot_date", np.isnat(dates), "dates are missing", "every row needs the day that it describes"
            )
        self._cells.snapshot_date = dates.astype("datetime64[D]").astype("datetime64[us]")
        return self._cells.snapshot_date

    def _evaluate(self, spec: ColumnSpec, name: str) -> NDArray[Any]:
        assert spec.expression is not None
        try:
            return spec.expression.evaluate(self._cells)
        except ValueError as error:
            raise ConfigError(Fault(f"mapping {self._mapping.name}", f"{name}: {error}")) from error

    def _numbers(self, spec: ColumnSpec, name: str) -> NDArray[np.float64]:
        if spec.recode is not None:
            values, unknown = self._cells.recoded(spec, name)
            if unknown and spec.unknown == "missing":
                self._note_unknown(name, unknown)
        elif spec.column is not None:
            values = self._cells.numbers(spec.column)
        elif spec.derive is not None:
            values = self._evaluate(spec, name)
            if values.dtype.kind == "M":
                raise ConfigError(
                    Fault(f"mapping {self._mapping.name}", f"{name}: derive yields dates", "numbers are needed")
                )
        else:
            if not isinstance(spec.constant, float):
                raise ConfigError(Fault(f"mapping {self._mapping.name}", f"{name}: constant is no number"))
            values = np.asarray(spec.constant, dtype=np.float64)
        return np.broadcast_to(values, len(self._raw)) * spec.scale + spec.offset

    def _note_unknown(self, name: str, unknown: dict[str, int]) -> None:
        n_rows = sum(unknown.values())
        message = f"{len(unknown)} labels that mapping {self._mapping.name} does not know are read as missing"
        if len(unknown) <= CATEGORY_LABELS and min(unknown.values()) >= CATEGORY_ROWS:
            more = ", ..." if len(unknown) > LISTED_LABELS else ""
            message += f": {', '.join(sorted(unknown)[:LISTED_LABELS])}{more}"
        self.findings.append(unknown_category(name, message, n_rows, len(self._raw)))

    def _target(self, spec: ColumnSpec) -> NDArray[np.int8]:
        n_faults = len(self._cells.faults)
        values = self._numbers(spec, TARGET)
        if len(self._cells.faults) == n_faults:
            self._fault(TARGET, np.isnan(values), "outcomes are missing", "drop the rows whose horizon is not over")
            wrong = ~np.isnan(values) & (values != 0) & (values != 1)
            self._fault(TARGET, wrong, "outcomes are neither 0 nor 1", "recode them in the mapping")
        return np.where(values == 1, 1, 0).astype(np.int8)

    def _pseudonyms(self, spec: ColumnSpec, key: PseudonymKey) -> NDArray[np.object_]:
        assert spec.column is not None
        codes, ids = pd.factorize(self._cells.text(spec.column))
        self._fault(
            f"column {spec.column}", codes < 0, "employee ids are missing", "or declare employee_id absent: true"
        )
        return np.array([*map(key.pseudonym, ids), ""], dtype=object)[codes]


def unknown_category(name: str, message: str, n_rows: int, n_total: int) -> Finding:
    """Finding about category labels or codes that nobody declared; an error when they are a twentieth of all rows."""
    share = n_rows / n_total
    return Finding(
        "category.unknown", Severity.ERROR if share > 0.05 else Severity.WARNING, name, message, n_rows, share
    )


def surrogate_ids(raw: pd.DataFrame, key: PseudonymKey) -> list[str]:
    """Stand-ins for the ids of an extract that has none, made of each row's whole content.

    They do not depend on the order of rows or columns. Rows of equal content get the same id with the number of the
    repetition behind `REPEAT_MARK`, in the order of the file; which of several equal rows is which cannot matter.

    Returns
    -------
    list of str, shape (n_rows,)
    """
    names = sorted(raw.columns)
    texts = [to_text(raw[name]) for name in names]
    header = "\x1f".join(names)
    secret = key.pseudonym(f"surrogate\x1e{header}").encode()
    ids: list[str] = []
    seen: dict[str, int] = {}
    for row in zip(*texts, strict=True):
        content = "\x1f".join("\x00" if cell is None else cell for cell in row)
        digest = hmac.digest(secret, content.encode(), sha256).hex()[:32]
        n_seen = seen[digest] = seen.get(digest, 0) + 1
        ids.append(digest if n_seen == 1 else f"{digest}{REPEAT_MARK}{n_seen}")
    return ids

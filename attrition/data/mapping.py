"""Mappings: how the columns of a foreign extract become the employee table, as a strict YAML file.

A column's value is ``source * scale + offset``, where the source is a ``column`` (its text looked up in ``recode``
first, when there is one), an expression (``derive``, see :mod:`attrition.data.derive`) or a ``constant``. What the
extract does not have is declared ``absent``: it is then left out of the model's schema, never invented.

::

    features:
      tenure: {derive: "months_between(parse_date(hired, '%d.%m.%Y'), snapshot_date)"}
      satisfaction_score: {column: satisfaction, scale: 4, offset: 1}   # 0 to 1 -> 1 to 5
      department_code: {column: unit, recode: {Sales: 0, Legal: 1}, unknown: missing}
      age: {absent: true}
"""

from __future__ import annotations

import difflib
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from attrition.data.derive import Expression
from attrition.data.schema import EMPLOYEE_ID, SNAPSHOT_DATE, TARGET, FeatureSchema
from attrition.errors import ConfigError, Fault
from attrition.settings import load_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHIPPED = Path(__file__).with_name("mappings")


class Dialect(BaseModel):
    """How the cells of a CSV file are written; Parquet needs none of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delimiter: str = Field(default=",", min_length=1, max_length=1)
    """Between two cells."""
    decimal: Literal[".", ","] = "."
    """Between the whole part and the fraction of a number."""
    thousands: Literal["", ",", ".", " ", "'"] = ""
    """Between groups of digits, dropped from numbers."""
    encoding: str = "utf-8"
    """Python name of the text encoding; a byte-order mark is accepted."""
    missing: tuple[str, ...] = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None")
    """Cells that hold nothing."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if self.decimal in {self.delimiter, self.thousands}:
            raise ValueError(f"decimal {self.decimal!r} is also the delimiter or the thousands mark")
        return self


class ColumnSpec(BaseModel):
    """Where one canonical column comes from; exactly one of column, derive, constant and absent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str | None = None
    """Name in the header of the extract."""
    derive: str | None = None
    """Expression over columns; ``snapshot_date`` stands for the row's snapshot date."""
    constant: float | date | str | None = None
    """The same value in every row."""
    absent: bool = False
    """The extract does not have it."""
    optional: bool = False
    """True: counts as absent when the file lacks the column, instead of being an error."""
    scale: float = 1.0
    """Factor from the extract's unit to the canonical one."""
    offset: float = 0.0
    """Added after scaling."""
    recode: dict[str, float] | None = None
    """Number for each text of the column. For a category its keys become the labels of the codes."""
    unknown: Literal["error", "missing"] = "error"
    """What a text outside `recode` is: a fault of the file, or a missing value and a finding."""
    labels: dict[int, str] | None = None
    """Labels of a category whose column holds codes already."""
    date_format: str | None = None
    """strptime format of a date column; None is ISO 8601."""

    @field_validator("recode", mode="before")
    @classmethod
    def _text_keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if any(isinstance(key, bool) for key in value):
            raise ValueError("YAML reads a bare yes, no, on, off, true or false as a truth value; put it in quotes")
        texts = [str(key) for key in value]
        if twice := {text for text in texts if texts.count(text) > 1}:
            raise ValueError(f"the same text stands twice, as a number and in quotes: {', '.join(sorted(twice))}")
        return dict(zip(texts, value.values(), strict=True))

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("column", "derive", "constant") if getattr(self, name) is not None]
        given += ["absent"] if self.absent else []
        if len(given) != 1:
            raise ValueError(
                f"needs exactly one of column, derive, constant and absent: true; has {', '.join(given) or 'none'}"
            )
        if self.column is None and (self.recode is not None or self.date_format is not None or self.optional):
            raise ValueError("recode, date_format and optional belong to a column")
        if self.recode is not None and self.labels is not None:
            raise ValueError("recode already gives the labels; leave labels out")
        if self.scale == 0:
            raise ValueError("scale 0 would make every value equal; use constant")
        if self.derive is not None:
            Expression.parse(self.derive)
        return self

    @property
    def expression(self) -> Expression | None:
        """Parsed `derive`."""
        return None if self.derive is None else Expression.parse(self.derive)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the extract that it reads."""
        if self.column is not None:
            return (self.column,)
        expression = self.expression
        return tuple(name for name in expression.columns if name != SNAPSHOT_DATE) if expression else ()

    @property
    def code_labels(self) -> dict[int, str] | None:
        """Label of each code of a category."""
        if self.recode is None:
            return self.labels
        labels: dict[int, str] = {}
        for text, code in self.recode.items():
            labels.setdefault(int(code * self.scale + self.offset), text)  # the first spelling names the code
        return labels


_ABSENT = ColumnSpec(absent=True)


class Mapping(BaseModel):
    """From the columns of an extract to an employee table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Name for readers; that of a shipped file is what ``--mapping`` takes."""
    description: str = ""
    """Where the extract comes from and what is peculiar about it."""
    dialect: Dialect = Dialect()
    """How a CSV file is written."""
    employee_id: ColumnSpec
    """A column, or absent: every row then gets a surrogate made of its content."""
    snapshot_date: ColumnSpec = _ABSENT
    """The day that the features describe."""
    target: ColumnSpec = _ABSENT
    """1 when the person left within the schema's horizon after the snapshot, else 0. A row whose horizon is not over
    yet is no stayer: leave it out of a training extract."""
    features: dict[str, ColumnSpec]
    """By canonical name; every feature of the schema is named, if only as absent."""
    sensitive: dict[str, ColumnSpec] = Field(default_factory=dict)
    """Attributes for fairness only, by the name they get in the table."""

    @model_validator(mode="after")
    def _roles(self) -> Self:
        for role, spec, sources in (
            ("employee_id", self.employee_id, ("column", "absent")),
            ("target", self.target, ("column", "derive", "absent")),
            *((f"sensitive.{name}", spec, ("column",)) for name, spec in self.sensitive.items()),
        ):
            given = next(
                name for name in ("column", "derive", "constant", "absent") if getattr(spec, name) not in {None, False}
            )
            if given not in sources:
                raise ValueError(f"{role} takes {' or '.join(sources)}, not {given}")
        if type(self.snapshot_date.constant) in {float, str}:
            raise ValueError("snapshot_date: constant takes a date such as 2024-03-31")
        clash = sorted(set(self.sensitive) & ({*self.features, EMPLOYEE_ID, SNAPSHOT_DATE, TARGET}))
        if clash:
            raise ValueError(f"sensitive attributes need names of their own, not those of features: {', '.join(clash)}")
        return self

    @classmethod
    def from_yaml(cls, path: str | Path) -> Mapping:
        """Mapping from a YAML file.

        Raises
        ------
        ConfigError
            Unreadable, an unknown key, or a column spec that contradicts itself; every fault is named.
        """
        return load_yaml(Path(path), cls)

    @classmethod
    def identity(cls, schema: FeatureSchema) -> Mapping:
        """Mapping of an extract that has canonical names and units already."""
        return cls(
            name=schema.name,
            employee_id=ColumnSpec(column=EMPLOYEE_ID),
            snapshot_date=ColumnSpec(column=SNAPSHOT_DATE),
            target=ColumnSpec(column=TARGET),
            features={name: ColumnSpec(column=name) for name in schema.names},
        )

    @property
    def specs(self) -> dict[str, ColumnSpec]:
        """Spec of every canonical column, in table order."""
        return {
            EMPLOYEE_ID: self.employee_id,
            SNAPSHOT_DATE: self.snapshot_date,
            **self.features,
            TARGET: self.target,
            **self.sensitive,
        }

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """Canonical columns that each column of the extract feeds."""
        fed: dict[str, tuple[str, ...]] = {}
        for name, spec in self.specs.items():
            for column in spec.columns:
                fed[column] = (*fed.get(column, ()), name)
        return fed

    def schema_for(self, schema: FeatureSchema) -> FeatureSchema:
        """`schema` with this mapping's code labels.

        Raises
        ------
        ConfigError
            A feature that `schema` does not know, or one of its features that the mapping says nothing about.
        """
        where = f"mapping {self.name}"
        faults = [
            Fault(
                where,
                f"unknown feature {name}",
                f"the schema has {', '.join(schema.names)}",
                suggestion(name, schema.names),
            )
            for name in self.features
            if name not in schema.names
        ]
        faults += [
            Fault(where, f"says nothing about feature {name}", "", "name its column, or declare it absent: true")
            for name in schema.names
            if name not in self.features
        ]
        if faults:
            raise ConfigError(faults)
        labels = {name: self.features[name].code_labels for name in schema.categorical}
        return schema.with_categories({name: codes for name, codes in labels.items() if codes})


def load_mapping(name_or_path: str | Path) -> Mapping:
    """Mapping from a YAML file (``my/mapping.yaml``) or by the name of a shipped one (``mfg10``).

    Raises
    ------
    ConfigError
        There is none of that name (the shipped ones are listed), or its content is faulty.
    """
    for path in (Path(name_or_path), _SHIPPED / f"{name_or_path}.yaml"):
        if path.is_file():
            return Mapping.from_yaml(path)
    shipped = shipped_mappings()
    raise ConfigError(
        Fault(
            f"mapping {name_or_path}",
            "no such file",
            f"shipped mappings: {', '.join(shipped)}",
            suggestion(str(name_or_path), shipped) or "give the path of a YAML file or one of these names",
        )
    )


def shipped_mappings() -> list[str]:
    """Names of the mappings that come with the package, sorted."""
    return sorted(path.stem for path in _SHIPPED.glob("*.yaml"))


def suggestion(name: str, known: Iterable[str]) -> str:
    """Question after the nearest known name; empty when none is near."""
    folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"did you mean {folded[near[0]]}?" if near else ""

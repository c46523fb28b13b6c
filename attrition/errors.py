"""Everything that attrition raises on purpose.

::

    AttritionError
    ├── UsageError               the call cannot be meant as it was written
    ├── InputError               data or configuration that cannot be used
    │   ├── ConfigError          a YAML file, a setting, a schema or a mapping
    │   ├── ExtractError         a file that does not yield an employee table
    │   ├── InsufficientData     too few rows, persons or classes for the task
    │   ├── NotFound             a version, run, snapshot or alias that does not exist
    │   ├── IntegrityError       bytes that differ from what their manifest promised
    │   └── ParityError          a compiled scorer that differs from its pipeline
    ├── AccessError              who asks is not known, or may not do it
    │   ├── NotAuthenticated     no key or token, or one that is not valid
    │   │   └── UnknownSigningKey    a token signed by a key that is not known (yet)
    │   └── AccessDenied         known, and not permitted
    └── PlatformError            Ray, MLflow, Serve or storage did not do its part
        ├── AccessUnavailable    the database of keys or the provider's key set cannot be asked
        ├── RayUnreachable
        ├── TrackingUnreachable
        ├── AuditUnavailable     the audit log cannot be written or read; the action is refused
        ├── PortInUse
        ├── LeaseLost            another controller drives the rollout
        └── ServingError         the HTTP endpoint or the Serve application
            ├── VariantUnavailable   the deployment of a placed variant
            └── VariantFailed        a version that raised on a record

A failed gate is not an error: it is a :class:`attrition.evaluation.gates.Verdict`. Exit codes and HTTP statuses are
mapped where the process meets the world (``attrition.cli``, ``attrition.serving``), never here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_FAULT_LINES = 10
"""Faults printed in one message; the rest is counted, so that a broken file of a million rows stays readable."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: where, what was found, what is allowed, what to do.

    Never holds a person's values: counts, column names and configuration values only.
    """

    where: str
    found: str
    allowed: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.found}", self.allowed, self.remedy]
        sentence = "; ".join(part.rstrip(".;") for part in parts if part)
        return sentence if sentence.endswith("?") else f"{sentence}."


class AttritionError(Exception):
    """Base of every error that attrition raises on purpose.

    Parameters
    ----------
    faults
        A sentence, one fault, or all faults found (reported together, at most `MAX_FAULT_LINES` of them).

    Attributes
    ----------
    faults : tuple of Fault
        Every fault, also those that the message only counts.
    """

    def __init__(self, faults: str | Fault | Iterable[Fault]) -> None:
        if isinstance(faults, str):
            self.faults: tuple[Fault, ...] = ()
            message = faults
        else:
            self.faults = (faults,) if isinstance(faults, Fault) else tuple(faults)
            lines = [str(fault) for fault in self.faults[:MAX_FAULT_LINES]]
            if len(self.faults) > MAX_FAULT_LINES:
                lines.append(f"... and {len(self.faults) - MAX_FAULT_LINES} more.")
            message = "\n".join(lines)
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the faults when the error crosses from a Ray worker to the driver."""
        return type(self), (self.faults or str(self),)


class UsageError(AttritionError):
    """The call cannot be meant as it was written."""


class InputError(AttritionError):
    """Data or configuration that cannot be used."""


class ConfigError(InputError):
    """A YAML file, a setting, a schema or a mapping that is not valid."""


class ExtractError(InputError):
    """A file that does not yield an employee table."""


class InsufficientData(InputError):
    """Too few rows, persons or classes for the task."""


class NotFound(InputError):
    """A version, run, snapshot or alias that does not exist."""


class IntegrityError(InputError):
    """Bytes that differ from what their manifest promised."""


class ParityError(InputError):
    """A compiled scorer that differs from the pipeline it was compiled from."""


class AccessError(AttritionError):
    """Who asks is not known, or may not do it."""


class NotAuthenticated(AccessError):
    """No key or token, or one that is not valid."""


class UnknownSigningKey(NotAuthenticated):
    """A token signed by a key that is not known (yet)."""


class AccessDenied(AccessError):
    """Somebody known wants what they are not permitted."""


class PlatformError(AttritionError):
    """Ray, MLflow, Serve or storage did not do its part."""


class AccessUnavailable(PlatformError):
    """The database of keys or the identity provider's key set cannot be asked."""


class RayUnreachable(PlatformError):
    """No Ray cluster answers at the address."""


class TrackingUnreachable(PlatformError):
    """No MLflow server answers at the address."""


class AuditUnavailable(PlatformError):
    """The database of the audit log does not answer; what cannot be recorded is not done."""


class PortInUse(PlatformError):
    """Another process listens on the port."""


class LeaseLost(PlatformError):
    """Another controller has taken over; whoever gets this must not act any more."""


class ServingError(PlatformError):
    """The HTTP endpoint or the Serve application failed."""


class VariantFailed(ServingError):
    """A version raised on a record that it was to score.

    Attributes
    ----------
    variant : str
        Name under which it is deployed.
    """

    def __init__(self, variant: str) -> None:
        super().__init__(Fault(f"variant {variant}", "could not score a record"))
        self.variant = variant

    def __reduce__(self) -> tuple[object, ...]:
        """As it was made."""
        return type(self), (self.variant,)


class VariantUnavailable(ServingError):
    """The deployment of a placed variant does not answer, or too many records wait for it."""

"""Smoke tests: an idle variant answers invented records over HTTP before it answers real ones.

The records come from the served schema, so they are what a caller may send: an ordinary one, one with the required
fields alone, one with every value at its lower end, one at the upper. Each is asked alone and all in one request.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from attrition.data.schema import FeatureSchema
from attrition.serving.openapi import example
from attrition.serving.records import RECORDS
from attrition.serving.traffic import SMOKE_HEADER, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from attrition.serving.snapshot import Bundle
    from attrition.serving.traffic import Variant

MAX_LATENCY_SECONDS = 0.25
"""Slowest median of a single request that passes; an ordinary one takes about a millisecond."""

TOLERANCE = 1e-9
"""Largest difference between the served probability and the bundle's own."""


@dataclass(frozen=True, slots=True)
class SmokeCheck:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
    passed : bool
    detail : str
        What was found.
    """

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class SmokeReport:
    """What the smoke tests of a variant found.

    Attributes
    ----------
    version : str
    checks : tuple of SmokeCheck
    """

    version: str
    checks: tuple[SmokeCheck, ...]

    @property
    def passed(self) -> bool:
        """Every check passed."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {**asdict(self), "passed": self.passed}

    def __str__(self) -> str:
        return "; ".join(f"{check.name}: {check.detail}" for check in self.checks if not check.passed) or "passed"


def smoke_test(
    http: httpx.Client,
    variant: Variant,
    bundle: Bundle,
    token: str,
    *,
    n_rounds: int = 5,
    max_latency_seconds: float = MAX_LATENCY_SECONDS,
) -> SmokeReport:
    """Ask a variant that is pinned to `token`.

    Parameters
    ----------
    http
        Client of the endpoint.
    variant
        Who must answer.
    bundle
        The same version, loaded here: its scorer says what the answers must be.
    token
        Value of the smoke header.
    n_rounds
        Times that every record is sent; more rounds meet more replicas.
    max_latency_seconds
        Slowest acceptable median.
    """
    import httpx

    headers = {SMOKE_HEADER: token}
    try:
        schema = FeatureSchema.from_dict(http.get("/v1/versions").raise_for_status().json()["schema"])
        records = sample_records(schema)
        answers, seconds = [], []
        for _ in range(n_rounds):
            for record in records:
                started = time.perf_counter()
                answers.append(http.post("/v1/predict", json=record, headers=headers).raise_for_status().json())
                seconds.append(time.perf_counter() - started)
        many = http.post("/v1/predict", json={RECORDS: records}, headers=headers).raise_for_status().json()
        together = many["predictions"]
    except (httpx.HTTPError, KeyError, ValueError) as error:
        return SmokeReport(variant.version, (SmokeCheck("answers", passed=False, detail=_reason(error)),))
    expected = [_expected(bundle, record) for record in records]
    checks = (
        SmokeCheck("answers", passed=True, detail=f"{len(answers) + 1} requests"),
        _identity(variant, [*answers, *together]),
        _range([*answers, *together]),
        _equality(answers + together, expected * (n_rounds + 1)),
        _latency(seconds, max_latency_seconds),
    )
    return SmokeReport(variant.version, checks)


def sample_records(schema: FeatureSchema) -> list[dict[str, Any]]:
    """Invented records that the schema accepts."""
    ordinary = example(schema)
    required = {feature.name: ordinary[feature.name] for feature in schema.features if feature.required}
    lowest, highest = dict(ordinary), dict(ordinary)
    for feature in schema.features:
        low, high = feature.bounds
        if math.isfinite(low):
            lowest[feature.name] = low
        if math.isfinite(high):
            highest[feature.name] = high
    # a record needs one value at least
    first = schema.names[0]
    return [ordinary, required or {first: ordinary[first]}, lowest, highest]


def _expected(bundle: Bundle, record: dict[str, Any]) -> float:
    values = [record.get(name) for name in bundle.schema.names]
    return bundle.scorer.score_one([float("nan") if value is None else float(value) for value in values])


def _identity(variant: Variant, answers: list[dict[str, Any]]) -> SmokeCheck:
    wanted = (variant.version, variant.name, Reason.SMOKE.value)
    found = {(answer.get("model_version"), answer.get("variant"), answer.get("reason")) for answer in answers}
    detail = ", ".join(sorted(f"{version} as {name} ({reason})" for version, name, reason in found))
    return SmokeCheck("version", passed=found == {wanted}, detail=f"answered by {detail}")


def _range(answers: list[dict[str, Any]]) -> SmokeCheck:
    def fits(answer: dict[str, Any]) -> bool:
        probability, threshold = answer.get("probability"), answer.get("threshold")
        if not isinstance(probability, int | float) or not isinstance(threshold, int | float):
            return False
        return 0.0 <= probability <= 1.0 and answer.get("decision") is (probability >= threshold)

    n_bad = sum(not fits(answer) for answer in answers)
    return SmokeCheck("range", passed=not n_bad, detail=f"{n_bad} of {len(answers)} are no probability with a decision")


def _equality(answers: list[dict[str, Any]], expected: list[float]) -> SmokeCheck:
    pairs: Iterator[tuple[dict[str, Any], float]] = zip(answers, expected, strict=True)
    differences = [abs(float(answer.get("probability") or 0.0) - wanted) for answer, wanted in pairs]
    worst = max(differences)
    return SmokeCheck("equality", passed=worst <= TOLERANCE, detail=f"differs from the bundle by up to {worst:.2g}")


def _latency(seconds: list[float], limit: float) -> SmokeCheck:
    median = sorted(seconds)[len(seconds) // 2]
    detail = f"median {median * 1e3:.1f} ms, at most {limit * 1e3:.0f} ms allowed"
    return SmokeCheck("latency", passed=median <= limit, detail=detail)


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    return f"HTTP {response.status_code}" if response is not None else f"no answer ({type(error).__name__})"

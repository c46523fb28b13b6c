"""Score a DataFrame over HTTP and get a DataFrame back."""

from __future__ import annotations

import math
import random
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

from attrition.data.schema import EMPLOYEE_ID
from attrition.errors import AccessDenied, Fault, NotAuthenticated, ServingError, UsageError
from attrition.governance.credentials import API_KEY, TOKEN, authorization

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from types import TracebackType

    import httpx
    import pandas as pd

    from attrition.errors import AttritionError
    from attrition.evaluation.explanations import Explanation

COLUMNS = ("prediction_id", "probability", "decision", "model_version", "variant")
"""Columns of a scored frame."""

MAX_ATTEMPTS = 6
"""Tries of one request: about six seconds of waiting in all, longer than a replica's restart behind HAProxy."""

_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 5.0
_BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


class Client:
    """Client of one scoring endpoint; holds connections, so close it or use it in a ``with`` block.

    Not for use by several threads at once.

    Parameters
    ----------
    url
        Base address of the endpoint, such as ``http://127.0.0.1:8000``.
    timeout_seconds
        Limit of one request.
    credentials
        API key or token that says who asks; None: ``ATTRITION_API_KEY`` or ``ATTRITION_TOKEN``, if one is set.
    transport
        How requests are sent; None is the network. For tests.
    sleep
        How waiting is done between tries. For tests.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 30.0,
        credentials: str | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        import httpx

        self.url = url.rstrip("/")
        self._sleep = sleep
        headers = authorization(credentials)
        self._http = httpx.Client(base_url=self.url, timeout=timeout_seconds, headers=headers, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ready(self) -> bool:
        """Whether a verified version is loaded; False also when nobody answers."""
        import httpx

        try:
            return self._http.get("/readiness").is_success
        except httpx.TransportError:
            return False

    def versions(self) -> dict[str, Any]:
        """Served versions with their traffic, thresholds and features; the schema and limits of a request.

        Raises
        ------
        ServingError
            The endpoint does not answer or has no version.
        NotAuthenticated, AccessDenied
            It wants to know who asks, or does not permit it.
        """
        document: dict[str, Any] = self._request("GET", "/v1/versions").json()
        return document

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Score the rows of a frame.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)
            Columns named like the served features, NaN where a value is missing; ``employee_id`` keeps a person with
            the same version. Other columns stay here: neither outcomes nor sensitive attributes are sent.

        Returns
        -------
        DataFrame of shape (n_rows, 5), index of `frame`
            ``prediction_id`` (str), ``probability`` (float64, of leaving within the horizon), ``decision`` (bool, the
            version expects the person to leave), ``model_version`` (str), ``variant`` (str).

        Raises
        ------
        UsageError
            No column is a feature, or columns hold infinite values or what is no number; says in how many rows.
        ServingError
            The endpoint refuses the rows (every bad field is named by row and column) or does not answer.
        NotAuthenticated, AccessDenied
            It wants to know who asks, or does not permit it.
        """
        import pandas as pd

        served = self.versions()
        features = [feature["name"] for feature in served["schema"]["features"]]
        columns = [name for name in (EMPLOYEE_ID, *features) if name in frame]
        if not set(columns) & set(features):
            raise UsageError(
                Fault("frame", "no column is a feature of the served versions", f"features: {', '.join(features)}")
            )
        if not len(frame):
            return _scored([], frame.index)
        sent = frame[columns]
        _check_numbers(sent)
        size = int(served["limits"]["max_records"])
        answers: list[dict[str, Any]] = []
        for first in range(0, len(frame), size):
            records = list(_records(sent.iloc[first : first + size]))
            response = self._request("POST", "/v1/predict", {"records": records}, first_row=first)
            answers.extend(response.json()["predictions"])
        return _scored(answers, pd.Index(frame.index))

    def explain(
        self,
        prediction_id: str | None = None,
        *,
        record: Mapping[str, Any] | None = None,
        version: str | None = None,
    ) -> Explanation:
        """Why a version estimates what it does, for an answer of :meth:`predict` or for a record.

        Parameters
        ----------
        prediction_id
            Of the answer; the version that gave it explains it.
        record
            Feature → value, instead of an id; missing values are None or left out.
        version
            Served version that explains the record; None: the one with the largest share of the traffic.

        Raises
        ------
        UsageError
            Neither an id nor a record, or both.
        ServingError
            The endpoint refuses (the prediction is unknown, its version is not served ...) or does not answer.
        """
        from attrition.evaluation.explanations import Explanation

        if (prediction_id is None) == (record is None):
            raise UsageError("explain: give a prediction_id or a record, one of the two.")
        document: dict[str, Any] = {"prediction_id": prediction_id} if record is None else {"record": dict(record)}
        if version is not None:
            document["version"] = version
        return Explanation.from_dict(
            self._request("POST", "/v1/explain", document, also_busy={HTTPStatus.CONFLICT}).json()
        )

    def _request(
        self,
        method: str,
        path: str,
        document: dict[str, Any] | None = None,
        *,
        first_row: int = 0,
        also_busy: Collection[HTTPStatus] = (),
    ) -> httpx.Response:
        """One request, repeated while the endpoint is busy or a connection breaks: scoring changes nothing.

        The statuses of `also_busy` count as busy when they come with Retry-After.
        """
        import httpx

        wait = _FIRST_WAIT_SECONDS
        for attempt in range(1, MAX_ATTEMPTS + 1):
            asked = 0.0
            try:
                response = self._http.request(method, path, json=document)
                if response.is_success:
                    return response
                asks_again = response.status_code in also_busy and "retry-after" in response.headers
                busy = response.status_code in _BUSY or asks_again
                if not busy or attempt == MAX_ATTEMPTS:
                    raise _refusal(response, self.url, first_row)
                asked = _retry_after(response)
            except httpx.TransportError as error:
                if attempt == MAX_ATTEMPTS:
                    found = "no answer" if isinstance(error, httpx.TimeoutException) else "no connection"
                    raise ServingError(
                        Fault(self.url, f"{found} in {attempt} tries", remedy="check it with `attrition serve status`")
                    ) from error
            # jitter: clients that failed together must not come back together
            self._sleep(max(asked, wait * random.uniform(0.5, 1.0)))  # noqa: S311 - not a secret
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
        raise AssertionError("unreachable")


def _check_numbers(frame: pd.DataFrame) -> None:
    """Every feature holds numbers or nothing; the endpoint would name each bad row by itself.

    Raises
    ------
    UsageError
        Names every column that does not, with the number of rows.
    """
    faults = []
    for name in frame.columns.drop(EMPLOYEE_ID, errors="ignore"):
        n_others, n_infinite = _no_numbers(frame[name])
        of = f"of {len(frame)} rows"
        if n_others:
            faults.append(Fault(f"column {name}", f"no number in {n_others} {of}", "numbers or NaN are allowed"))
        if n_infinite:
            faults.append(Fault(f"column {name}", f"infinite in {n_infinite} {of}", "numbers or NaN are allowed"))
    if faults:
        raise UsageError(faults)


def _no_numbers(column: pd.Series) -> tuple[int, int]:
    """Values that are neither numbers nor missing, and values that are infinite."""
    import numpy as np

    if column.dtype.kind in "biu":
        return 0, 0
    if column.dtype.kind == "f":
        return 0, int(np.isinf(column.to_numpy(np.float64, na_value=np.nan)).sum())
    values = column[column.notna()].tolist()
    numbers = [value for value in values if isinstance(value, int | float | np.number | np.bool_)]
    n_infinite = sum(isinstance(value, float | np.floating) and math.isinf(value) for value in numbers)
    return len(values) - len(numbers), n_infinite


def _records(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows as JSON-ready objects, without the missing values."""
    import numpy as np

    present = frame.notna().to_numpy()
    names = list(frame.columns)
    for row, known in zip(frame.astype(object).to_numpy(), present, strict=True):
        yield {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value, is_known in zip(names, row, known, strict=True)
            if is_known
        }


def _scored(answers: list[dict[str, Any]], index: pd.Index) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame([[answer[name] for name in COLUMNS] for answer in answers], columns=list(COLUMNS), index=index)
    return frame.astype({"probability": "float64", "decision": "bool"})


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return min(float(value), _LONGEST_WAIT_SECONDS) if value.isdigit() else 0.0


def _refusal(response: httpx.Response, url: str, first_row: int) -> AttritionError:
    """The endpoint's problem document as an error of this side."""
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        remedy = "" if "authorization" in response.request.headers else f"set {API_KEY} or {TOKEN}"
        return NotAuthenticated(Fault(url, _detail(response), remedy=remedy))
    if response.status_code == HTTPStatus.FORBIDDEN:
        return AccessDenied(Fault(url, _detail(response), remedy="ask whoever manages access here for another role"))
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return ServingError(Fault(url, f"answered {response.status_code}", remedy=response.text.strip()[:200]))
    problem = response.json()
    errors = problem.get("errors", [])
    if not errors:
        return ServingError(Fault(url, f"{problem['title']} ({problem['status']})", remedy=problem["detail"]))
    faults = [Fault(_place(error["pointer"], first_row), error["detail"]) for error in errors]
    more = problem["n_errors"] - len(errors)
    return ServingError([*faults, Fault(url, f"{more} more bad fields")] if more else faults)


def _detail(response: httpx.Response) -> str:
    """What a refusal says, also when something before the endpoint gave it."""
    is_problem = response.headers.get("content-type", "").startswith("application/problem+json")
    return str(response.json()["detail"]) if is_problem else f"answered {response.status_code}"


def _place(pointer: str, first_row: int) -> str:
    """Row and column of a frame for a pointer such as ``/records/3/age``."""
    parts = pointer.split("/")
    if len(parts) == 4 and parts[1] == "records":
        return f"row {first_row + int(parts[2])}, column {parts[3]}"
    return f"row {first_row + int(parts[2])}" if len(parts) == 3 and parts[2].isdigit() else pointer or "request"

"""What each route of the endpoint needs of who asks it.

A route that is not in this table is refused where access is closed, so a new one cannot be left open by forgetting it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from attrition.governance.actions import Action

if TYPE_CHECKING:
    from collections.abc import Mapping

PUBLIC: Final = "public"
"""Permission of a route that everybody may ask: probes and documentation, which say nothing about a person."""

ROUTES: Mapping[tuple[str, str], Action | str] = {
    ("GET", "/"): PUBLIC,
    ("GET", "/docs"): PUBLIC,
    ("GET", "/openapi.json"): PUBLIC,
    ("GET", "/liveness"): PUBLIC,
    ("GET", "/readiness"): PUBLIC,
    ("GET", "/v1/versions"): Action.MODEL_VIEW,
    ("GET", "/v1/vitals"): Action.MODEL_VIEW,
    ("POST", "/v1/predict"): Action.PREDICT,
    ("POST", "/v1/explain"): Action.EXPLAIN,
    ("POST", "/v1/outcomes"): Action.OUTCOME_IMPORT,
    ("GET", "/v2"): PUBLIC,
    ("GET", "/v2/health/live"): PUBLIC,
    ("GET", "/v2/health/ready"): PUBLIC,
    ("GET", "/v2/models/{model}"): Action.MODEL_VIEW,
    ("GET", "/v2/models/{model}/ready"): PUBLIC,
    ("POST", "/v2/models/{model}/infer"): Action.PREDICT,
    ("GET", "/v2/models/{model}/versions/{version}"): Action.MODEL_VIEW,
    ("GET", "/v2/models/{model}/versions/{version}/ready"): PUBLIC,
    ("POST", "/v2/models/{model}/versions/{version}/infer"): Action.PREDICT,
    ("GET", "/ping"): PUBLIC,
    ("GET", "/health"): PUBLIC,
    ("POST", "/ping"): PUBLIC,
    ("POST", "/health"): PUBLIC,
    ("GET", "/version"): PUBLIC,
    ("POST", "/invocations"): Action.PREDICT,
}
"""Permission by method and path; a part in braces is any one. What is not listed is refused."""

EXACT: Mapping[tuple[str, str], str] = {
    route: str(permission) for route, permission in ROUTES.items() if "{" not in route[1]
}
"""Permission of the routes without a part in braces, as plain text: to hash a member of an enumeration takes longer
than the rest of a look-up, and there is one with every request."""

_PATTERNS = tuple(
    (method, re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))), str(permission))
    for (method, path), permission in ROUTES.items()
    if "{" in path
)


def needed(method: str, path: str) -> str | None:
    """What a request needs: the value of an action, `PUBLIC`, or None when there is no such route.

    Examples
    --------
    >>> needed("POST", "/v2/models/any/infer")
    'prediction.score'
    >>> needed("DELETE", "/v1/predict") is None
    True
    """
    known = EXACT.get((method, path))
    if known is not None:
        return known
    return next((known for verb, pattern, known in _PATTERNS if verb == method and pattern.fullmatch(path)), None)


def methods_of(path: str) -> list[str]:
    """Methods that a path has; none when there is no such path."""
    return [method for method in ("GET", "POST") if needed(method, path) is not None]

"""Serve's declarative REST interface, which the Ray dashboard has: what is deployed, and what shall be."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from attrition.errors import Fault, RayUnreachable, ServingError
from attrition.serving.deployed import readable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

APPLICATIONS = "/api/serve/applications/"

DEPLOY_TIMEOUT_SECONDS = 120.0
"""A first start takes 10 to 30 s on two cores; beyond this something is wrong."""

_POLL_SECONDS = 0.05
_RECOVERY_SECONDS = 30.0


class Dashboard:
    """The dashboard of one Ray, as far as Serve is concerned.

    Every call raises ``RayUnreachable`` when there is no connection, no Ray dashboard, or Ray wants a token, and
    ``ServingError`` with Serve's explanation when it refuses.

    Parameters
    ----------
    url
        Such as ``http://127.0.0.1:8265``.
    token
        Ray authentication token; empty when the cluster asks for none.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    def details(self) -> dict[str, Any]:
        """Serve's document about everything that it runs; see :mod:`attrition.serving.deployed`."""
        response = self._call("GET", timeout_seconds=10.0)
        try:
            document = response.json()
        except ValueError as error:
            raise self._is_none("something that is not JSON") from error
        if not isinstance(document, dict):
            raise self._is_none("JSON of another form")
        return document

    def put(self, document: Mapping[str, Any]) -> None:
        """Have exactly these applications deployed."""
        # the first call starts Serve's controller and proxies
        self._call("PUT", document, timeout_seconds=DEPLOY_TIMEOUT_SECONDS)

    def delete(self, timeout_seconds: float) -> None:
        """Stop Serve."""
        self._call("DELETE", timeout_seconds=timeout_seconds)

    def _is_none(self, found: str) -> RayUnreachable:
        remedy = "give the address of a Ray dashboard, http://HOST:8265 unless it was started otherwise"
        return RayUnreachable(Fault(self.url, f"is no Ray dashboard: it answers with {found}", remedy=remedy))

    def _call(
        self, method: str, document: Mapping[str, Any] | None = None, *, timeout_seconds: float
    ) -> httpx.Response:
        """One call, repeated while Serve's controller starts or recovers (503)."""
        import httpx

        deadline = time.monotonic() + min(timeout_seconds, _RECOVERY_SECONDS)
        while True:
            try:
                response = httpx.request(
                    method, self.url + APPLICATIONS, json=document, headers=self._headers, timeout=timeout_seconds
                )
            except httpx.TransportError as error:
                raise RayUnreachable(
                    Fault(self.url, "the Ray dashboard does not answer", remedy="check the Ray address")
                ) from error
            if response.status_code == 503 and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                continue
            break
        if response.status_code in {401, 403}:
            raise RayUnreachable(
                Fault(self.url, "Ray asks for a token", remedy="set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN")
            )
        if response.status_code in {404, 405}:
            raise self._is_none(f"status {response.status_code}")
        if not response.is_success:
            raise ServingError(
                Fault(self.url, f"Serve answered {response.status_code}", remedy=readable(response.text))
            )
        return response

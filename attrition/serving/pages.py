"""Everything that is not scoring: health, versions, the OpenAPI document, a documentation page that works offline."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from attrition import __version__
from attrition.serving import openapi, openapi_access, vitals
from attrition.serving.protocols import explain, explain_openapi, outcomes, problems
from attrition.serving.traffic import SMOKE_HEADER

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

    from attrition.serving.gateway import Gateway

_POLICY = "default-src 'self' 'unsafe-inline' data:"
"""Content security policy of the documentation page: nothing is fetched from elsewhere."""


class Pages:
    """The pages of one gateway; each shows its state at the moment of the request."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._app = self._build()

    @property
    def app(self) -> FastAPI:
        """ASGI application."""
        return self._app

    async def liveness(self) -> Response:
        """The process answers."""
        return _json({"status": "alive"})

    async def readiness(self) -> Response:
        """A verified version is loaded; also shows a change that was refused."""
        gateway = self._gateway
        if gateway.snapshot is None:
            return _problem(problems.not_ready("the first version is still loading"))
        rejection = gateway.rejection
        return _json(
            {
                "status": "ready",
                "replica": gateway.replica,
                "generation": gateway.snapshot.traffic.generation,
                # a log in trouble must not take the replica out of rotation: it goes on scoring
                "prediction_log": gateway.log and gateway.log.health().to_dict(),
                # nor one of several variants, whose people are told 503
                "unreachable": [
                    name for name, lane in gateway.snapshot.lanes.items() if lane.batcher and lane.batcher.is_failing
                ],
                "rejected": rejection and {"generation": rejection.generation, "reason": rejection.reason},
            }
        )

    async def versions(self) -> Response:
        """Served versions, their traffic, and the schema and limits of a request; a pin of a smoke test is left out."""
        gateway = self._gateway
        if gateway.snapshot is None:
            return _problem(problems.not_ready("the first version is still loading"))
        snapshot = gateway.snapshot
        traffic = snapshot.traffic
        variants = [
            {
                "name": lane.variant.name,
                "version": lane.variant.version,
                "weight": lane.variant.weight,
                "placement": lane.variant.placement,
                "role": traffic.role(lane.variant.name),
                "threshold": lane.bundle.threshold,
                "manifest_sha256": lane.variant.manifest_sha256,
                "features": list(lane.bundle.schema.names),
            }
            for lane in snapshot.lanes.values()
        ]
        return _json(
            {
                "generation": traffic.generation,
                "experiment": traffic.experiment or None,
                "variants": variants,
                "pins": [pin.model_dump() for pin in traffic.pins if pin.header != SMOKE_HEADER],
                "shadows": list(traffic.shadows),
                "schema": snapshot.schema.to_dict(),
                "limits": gateway.limits.model_dump(),
            }
        )

    async def vitals(self) -> Response:
        """What each variant answered and failed on this replica since its start, as of the last second."""
        gateway = self._gateway
        return _json(gateway.meter.vitals.document(gateway.replica))

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI document of what is served right now, under the prefix at which it was asked for."""
        described = {**self._app.openapi(), "servers": [{"url": request.scope.get("root_path") or "/"}]}
        if self._gateway.snapshot is None:
            return _json(described)
        schema = self._gateway.snapshot.schema
        described = openapi.document(described, schema, self._gateway.limits)
        if self._gateway.explanations is not None:
            described["paths"][explain.PATH] = explain_openapi.path_item(openapi.example(schema))
        if self._gateway.log is not None:
            described["paths"][outcomes.PATH] = outcomes.path_item()
        if self._gateway.access is not None:
            described = openapi_access.secured(described)
        return _json(described)

    async def docs(self) -> Response:
        """The documentation page, which renders the OpenAPI document without any file from elsewhere."""
        from starlette.responses import HTMLResponse

        page = files("attrition.serving").joinpath("docs.html").read_text(encoding="utf-8")
        return HTMLResponse(page, headers={"content-security-policy": _POLICY})

    async def root(self) -> Response:
        """Sends a person who opens the bare address to the documentation."""
        from starlette.responses import RedirectResponse

        return RedirectResponse("docs")

    def _build(self) -> FastAPI:
        from fastapi import FastAPI
        from starlette.exceptions import HTTPException
        from starlette.routing import Route

        app = FastAPI(
            title="attrition",
            version=__version__,
            summary="Probability that employees leave.",
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
        )
        app.add_exception_handler(HTTPException, _http_problem)
        for path, page, summary in (
            ("/liveness", self.liveness, "Whether the process answers"),
            ("/readiness", self.readiness, "Whether a verified version is loaded"),
            ("/v1/versions", self.versions, "Versions, their traffic and their features"),
            (vitals.PATH, self.vitals, "What each variant answered and failed on one replica"),
        ):
            app.add_api_route(path, page, summary=summary, response_model=None, responses=_responses())
        document = Route("/openapi.json", self.openapi, include_in_schema=False)
        document.methods = {"GET"}  # Starlette adds HEAD, for which no permission is stated
        app.router.routes.append(document)
        for path, page in (("/docs", self.docs), ("/", self.root)):
            app.add_api_route(path, page, include_in_schema=False, response_model=None)
        return app


def _responses() -> dict[int | str, dict[str, Any]]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    unready: dict[str, Any] = {"application/problem+json": {"schema": {"type": "object"}}}
    return {
        200: {"description": "As asked.", "content": content},
        503: {"description": "No version is loaded yet.", "content": unready},
    }


async def _http_problem(_request: Any, error: Any) -> Response:
    """The router's own errors, 404 and 405, as problem documents."""
    headers = tuple((name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items())
    if error.status_code == 404:
        detail = "the paths of this service are listed at /docs"
        return _problem(problems.Problem(404, "not-found", "Nothing is here", detail, headers=headers))
    title = "The method is not allowed"
    return _problem(
        problems.Problem(error.status_code, "method-not-allowed", title, "see the header allow", headers=headers)
    )


def _problem(problem: problems.Problem) -> Response:
    from starlette.responses import Response

    headers = {name.decode(): value.decode() for name, value in problem.headers}
    return Response(problem.body, problem.status, headers, problems.CONTENT_TYPE.decode())


def _json(document: dict[str, Any]) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(document)

"""What the OpenAPI document says about access, where it is closed."""

from __future__ import annotations

from typing import Any

from attrition.serving.permissions import PUBLIC, needed

_SCHEME = "bearer"
_METHODS = ("get", "post")
_REFUSALS = {
    "401": "Nobody known asks: send an API key or a token.",
    "403": "The caller's roles do not permit it.",
    "503": "Who asks cannot be checked at the moment; try again after the seconds in Retry-After.",
}


def secured(document: dict[str, Any]) -> dict[str, Any]:
    """A copy of an OpenAPI document whose operations say what they need of who asks.

    Parameters
    ----------
    document
        OpenAPI 3.1, with every path that is served.
    """
    scheme = {"type": "http", "scheme": "bearer", "description": "An API key, attr_<id>_<secret>, or a JSON Web Token."}
    components = document.get("components", {})
    return {
        **document,
        "components": {**components, "securitySchemes": {_SCHEME: scheme}},
        "paths": {path: _secured_path(path, item) for path, item in document["paths"].items()},
    }


def _secured_path(path: str, item: dict[str, Any]) -> dict[str, Any]:
    return {key: _secured(key.upper(), path, value) if key in _METHODS else value for key, value in item.items()}


def _secured(method: str, path: str, operation: dict[str, Any]) -> dict[str, Any]:
    permission = needed(method, path)
    if permission == PUBLIC:
        return {**operation, "security": []}
    # the protocol's own errors have the same form, whatever their status
    errors = [response for status, response in operation["responses"].items() if status.startswith(("4", "5"))]
    content = {"content": errors[0]["content"]} if errors and "content" in errors[0] else {}
    refusals = {status: {"description": text, **content} for status, text in _REFUSALS.items()}
    described = f"{operation.get('description', '')} Needs the permission {permission}.".strip()
    responses = {**refusals, **operation["responses"]}
    return {**operation, "description": described, "security": [{_SCHEME: []}], "responses": responses}

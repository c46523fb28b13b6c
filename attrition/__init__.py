"""Predict which employees are likely to leave, and run that model responsibly on Ray.

The SDK is re-exported lazily, so that importing the package loads neither ray nor mlflow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attrition.client import Client
    from attrition.data.schema import FeatureSchema
    from attrition.errors import AttritionError
    from attrition.settings import Settings
    from attrition.workspace import Workspace

__version__ = "0.1.0"

__all__ = ["AttritionError", "Client", "FeatureSchema", "Settings", "Workspace"]

_HOMES = {
    "AttritionError": "attrition.errors",
    "Client": "attrition.client",
    "FeatureSchema": "attrition.data.schema",
    "Settings": "attrition.settings",
    "Workspace": "attrition.workspace",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

"""Where a variant is scored, inside the gateway or by its own replicas; pure, from the traffic to Serve's documents.

In process is the default and the fastest. A variant gets a deployment of its own when it needs what the gateway has
not: other packages, other hardware, memory that the champion shall not share, or a size that follows its own load.

Such a deployment is a Serve application of its own, because a deployment added to the gateway's application would
change that application and restart every replica of it. It has no route: only gateways call it. Its name is made from
everything that decides what runs in it, so another version or other resources are another application, which starts
beside the old one before the traffic moves. Whoever writes Serve's configuration adds :func:`placed_applications`.
"""

from __future__ import annotations

import hashlib
import json
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attrition.serving.traffic import Traffic, Variant

PLACED = "Placed"
"""Name of the one deployment in such an application."""

_IMPORT_PATH = "attrition.serving.placed:build"
_MARK = "-variant-"

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class Placement(StrEnum):
    """Where a variant is scored."""

    IN_PROCESS = "in_process"
    """In every replica of the gateway, without a hop."""
    DEPLOYMENT = "deployment"
    """In a Serve deployment of its own, reached by micro-batches."""


class PlacedOptions(BaseModel):
    """Size, resources and limits of a variant's own deployment.

    They are part of the traffic, which anybody who may look at it can read: no secrets in `runtime_env`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_replicas: Count = 1
    """Replicas; the fewest when `max_replicas` is given. Two survive the loss of one without a failed request."""
    max_replicas: Count | None = None
    """Replicas under load; None keeps their number fixed."""
    num_cpus: Annotated[float, Field(ge=0)] = 0.1
    """Logical CPUs of a replica; the default leaves those of a laptop to the search."""
    memory: Positive | None = None
    """Bytes of a replica; None asks for none in particular."""
    resources: dict[str, float] = Field(default_factory=dict)
    """Custom resources of a replica."""
    runtime_env: dict[str, Any] = Field(default_factory=dict)
    """Ray runtime environment of a replica; empty when the image has what it needs."""
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0
    """Until a batch is given up; a record that arrives while one is under way waits up to twice as long."""
    max_batch_records: Count = 4_096
    """Records in one call; a request that holds more goes alone."""
    max_waiting_records: Count = 10_000
    """Records that may wait in one gateway replica while a call is under way; beyond it they are refused with 503."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.num_replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is below num_replicas {self.num_replicas}")
        return self

    @property
    def deployed(self) -> dict[str, Any]:
        """The part that decides what runs; the rest are limits on the gateway's side."""
        return self.model_dump(mode="json", exclude={"timeout_seconds", "max_batch_records", "max_waiting_records"})


def application_name(application: str, variant: Variant) -> str:
    """Name of the Serve application that scores a placed variant.

    Parameters
    ----------
    application
        Name of the gateway's application.
    """
    facts = [variant.bundle, variant.manifest_sha256, variant.options.deployed]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]
    return f"{application}{_MARK}{re.sub('[^A-Za-z0-9.]', '-', variant.version)}-{digest}"


def serves_variant_of(application: str, name: str) -> bool:
    """Whether a name is one that :func:`application_name` gives to the variants of an application."""
    return name.startswith(application + _MARK)


def placed_applications(
    application: str, traffic: Traffic, *, only: Iterable[str] | None = None
) -> list[dict[str, Any]]:
    """Serve's documents of the applications that score the placed variants of a traffic.

    Parameters
    ----------
    application
        Name of the gateway's application.
    only
        Names of the variants that count; None means all, also those that are only kept warm.

    Returns
    -------
    list of dict
        Elements of ``applications`` in a Serve configuration; empty when nothing is placed.
    """
    names = None if only is None else set(only)
    placed = (v for v in traffic.variants if v.is_placed and (names is None or v.name in names))
    found = {application_name(application, variant): variant for variant in placed}
    return [_application(name, variant) for name, variant in found.items()]


def _application(name: str, variant: Variant) -> dict[str, Any]:
    options = variant.options
    actor = {
        "num_cpus": options.num_cpus,
        "memory": options.memory,
        "resources": options.resources,
        "runtime_env": options.runtime_env,
    }
    deployment: dict[str, Any] = {
        "name": PLACED,
        # each gateway replica has one batch under way
        "max_ongoing_requests": 100,
        "health_check_period_s": 2.0,
        "graceful_shutdown_wait_loop_s": 0.5,
        "ray_actor_options": {key: value for key, value in actor.items() if value not in (None, {})},
    }
    if options.max_replicas is None:
        deployment["num_replicas"] = options.num_replicas
    else:
        deployment["autoscaling_config"] = {
            "min_replicas": options.num_replicas,
            "max_replicas": options.max_replicas,
            # a replica works on one batch at a time: a second one waits
            "target_ongoing_requests": 1.0,
            "upscale_delay_s": 10.0,
            "downscale_delay_s": 300.0,
        }
    return {
        "name": name,
        "route_prefix": None,
        "import_path": _IMPORT_PATH,
        "args": {"bundle": variant.bundle, "manifest_sha256": variant.manifest_sha256},
        "deployments": [deployment],
    }

"""What the control plane reads out of Serve's own description."""

from __future__ import annotations

from attrition.serving.deployed import running_replicas
from attrition.serving.traffic import Traffic

TRAFFIC = Traffic.single("1.0.0", "/bundles/1.0.0", "a" * 64).model_dump(mode="json")


def replicas(name, *states):
    return {"replicas": [{"replica_id": f"{name}-{place}", "state": state} for place, state in enumerate(states)]}


def test_only_replicas_with_traffic_confirm_a_change():
    """An explainer has none: waiting for its word would hold every change up."""
    configured = [{"name": "Gateway", "user_config": TRAFFIC}, {"name": "Explainer"}]
    application = {
        "deployed_app_config": {"deployments": configured},
        "deployments": {
            "Gateway": replicas("gateway", "RUNNING", "STARTING"),
            "Explainer": replicas("explainer", "RUNNING"),
        },
    }
    details = {"applications": {"attrition": application}}
    assert running_replicas(details, "attrition") == {"gateway-0"}
    assert running_replicas(details, "other") == set()

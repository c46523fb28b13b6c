"""Traffic through the specification of a RayService, as far as it needs no Kubernetes."""

from __future__ import annotations

import pytest

from attrition.cluster.ray_service import RayServiceControl
from attrition.errors import Fault, ServingError, UsageError


class Specification:
    """A RayService whose object changes while somebody writes it."""

    def __init__(self, conflicts, configs=()):
        self.configs = [{"http_options": {"port": 8000}, "applications": []}, *configs]
        self.conflicts, self.written = conflicts, None

    def serve_config(self, _service):
        config = self.configs.pop(0) if len(self.configs) > 1 else self.configs[0]
        return config, str(self.conflicts)

    def set_serve_config(self, _service, config, version):
        assert version == str(self.conflicts)
        if self.conflicts:
            self.conflicts -= 1
            raise UsageError(Fault("rayservice/x", "was changed by somebody else meanwhile"))
        self.written = config


def put(specification):
    control = RayServiceControl(specification, "x", "http://127.0.0.1:1", "http://127.0.0.1:2")
    control._put({"applications": [{"name": "attrition"}]})


def test_reports_of_the_operator_do_not_hinder_a_change():
    """They change the object's version, not what is served."""
    specification = Specification(conflicts=3)
    put(specification)
    assert specification.written == {"http_options": {"port": 8000}, "applications": [{"name": "attrition"}]}


@pytest.mark.parametrize(
    "specification",
    [Specification(conflicts=2, configs=[{"applications": [{"name": "another"}]}]), Specification(conflicts=1_000)],
    ids=["another traffic", "without end"],
)
def test_somebody_elses_change_does(specification):
    """It is not written over."""
    with pytest.raises(ServingError, match="changed by somebody else"):
        put(specification)
    assert specification.written is None

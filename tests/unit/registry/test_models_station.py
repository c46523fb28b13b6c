"""Model versions under guard: what the station adds to the registry."""

from __future__ import annotations

import pytest

from attrition.errors import RayUnreachable
from attrition.governance.guard import Guard
from attrition.settings import Settings
from attrition.stations.models import Models


class Registry:
    """Holds one version, and notes when its files go."""

    version, manifest_sha256 = "1.0.0", "0" * 64

    def __init__(self):
        self.facts = {"lineage": {"snapshot": None}}
        self.deleted = False

    def resolve(self, _ref):
        return self

    def delete(self, _ref, **_):
        self.deleted = True
        return self


@pytest.mark.parametrize(("ray", "gone"), [(None, True), ("http://127.0.0.1:{port}", False)])
def test_files_stay_while_a_ray_that_may_serve_them_does_not_answer(tmp_path, unused_port, ray, gone):
    """Without a Ray nothing is served; with one that is away nobody knows."""
    settings = Settings.from_environment({}, home=tmp_path, ray_address=ray and ray.format(port=unused_port))
    registry = Registry()
    guard = Guard(settings)
    models = Models(settings, guard, lambda: registry)
    if gone:
        models.delete("1.0.0", justification="of no use any more")
    else:
        with pytest.raises(RayUnreachable):
            models.delete("1.0.0", justification="of no use any more")
    assert registry.deleted is gone
    guard.close()

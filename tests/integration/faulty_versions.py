"""Makes registered versions misbehave inside the replicas that serve them, from the moment when a file says so.

A replica runs :func:`install` first; what it loads then looks, before each scoring, into the file that the variable
`VARIABLE` names: ``{"1.0.1": {"error_share": 0.5}, "1.0.2": {"sleep_seconds": 0.03}}``.
"""

from __future__ import annotations

import json
import os
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

VARIABLE = "ATTRITION_TEST_FAULTS"
HOOK = "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"


def replica_environment(faults: Path) -> dict[str, str]:
    """Variables of the replicas."""
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {VARIABLE: str(faults), HOOK: "faulty_versions.install", "PYTHONPATH": os.pathsep.join(paths)}


def install() -> None:
    """Ray calls this in each worker process."""
    from attrition.cluster.worker_start import prepare_worker
    from attrition.registry import bundle

    prepare_worker()
    load = bundle.load_bundle

    def load_faulty(path: Any, manifest_sha256: str) -> Any:
        loaded = load(path, manifest_sha256)
        return replace(loaded, scorer=FaultyScorer(loaded.scorer, loaded.version, Path(os.environ[VARIABLE])))

    bundle.load_bundle = load_faulty


@dataclass
class FaultyScorer:
    """A scorer that raises or dawdles when the file says so."""

    scorer: Any
    version: str
    faults: Path

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scorer, name)

    def score_one(self, values: Any) -> float:
        self._misbehave()
        return self.scorer.score_one(values)

    def score(self, matrix: Any) -> Any:
        self._misbehave()
        return self.scorer.score(matrix)

    def _misbehave(self) -> None:
        try:
            fault = json.loads(self.faults.read_text()).get(self.version, {})
        except (FileNotFoundError, ValueError):
            return
        if random.random() < fault.get("error_share", 0.0):
            raise RuntimeError("injected")
        time.sleep(fault.get("sleep_seconds", 0.0))

"""What one explanation costs, against the shap library called the ordinary way.

The ordinary way: the fitted pipeline prepares a frame of one record, ``shap.Explainer`` (made once) explains the model,
the columns of a category are summed. Ours: the whole explanation of one record from the version's declared files, with
the sum checked against the scorer and the words. Both answer the same records in turn; the largest difference of their
values is printed beside the times.

Run: ``python tests/benchmarks/bench_explanations.py``; a minute, one core. Not a test: it prints figures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from attrition.data.extracts import read_extract
from attrition.data.workforce import simulate, write_extract
from attrition.governance.privacy import PseudonymKey
from attrition.scoring.compile import compile_background, compile_candidate
from attrition.scoring.explainer import Explainer
from attrition.training.candidate import fit_candidate, one_thread
from attrition.training.lineage import Lineage

CONFIGURATIONS = {
    "logistic regression": ("logistic_regression", {}),
    "gradient boosting, 120 x 10 leaves": ("hist_gradient_boosting", {"max_iter": 120, "max_leaf_nodes": 10}),
    "gradient boosting, 250 x 48 leaves": ("hist_gradient_boosting", {"max_iter": 250, "max_leaf_nodes": 48}),
    "random forest, 80 deep trees": ("random_forest", {"n_estimators": 80, "min_samples_leaf": 5}),
    "extra trees, 80 deep trees": ("extra_trees", {"n_estimators": 80, "min_samples_leaf": 5}),
}

_FOOTPRINT = """
import json, time
import psutil
began = time.perf_counter()
{imports}
print(json.dumps([time.perf_counter() - began, psutil.Process().memory_info().rss / 2**20]))
"""


def table(folder, n):
    """Employees of the simulated workforce, some values missing."""
    key = PseudonymKey.load_or_create(folder / "key")
    path = write_extract(simulate(n, seed=1), folder / "workforce.csv.gz")
    return read_extract(path, "workforce", key).table


def fitted(rows, family, parameters):
    """A candidate, and its explainer."""
    lineage = Lineage(None, None, "bench", "bench", "0" * 64, 42, "2026-01-01T00:00:00+00:00")
    candidate = fit_candidate(rows, family, parameters, n_folds=3, lineage=lineage)
    files = compile_candidate(candidate)
    background = compile_background(candidate, files, rows.features.to_numpy())
    return candidate, Explainer(files, background, schema=rows.schema, version="1.0.0", threshold=candidate.threshold)


class OrdinaryWay:
    """The shap library on the pipeline's own pieces."""

    def __init__(self, candidate, features):
        import shap

        pipeline = candidate.classifier.calibrated_classifiers_[0].estimator
        self._prepare, model = pipeline["prepare"], pipeline["model"]
        columns = list(self._prepare.get_feature_names_out())
        self._names = list(candidate.schema.names)
        self._of_feature = [[place for place, column in enumerate(columns) if name in column] for name in self._names]
        if candidate.family == "logistic_regression":
            training = self._prepare.transform(features)
            masker = shap.maskers.Independent(training, max_samples=len(training))
            self._explainer = shap.Explainer(model, masker)
        else:
            self._explainer = shap.Explainer(model)

    def prepared(self, frame):
        return self._prepare.transform(frame)

    def explained(self, matrix):
        found = self._explainer(matrix).values[0]
        found = found[:, 1] if found.ndim == 2 else found
        return np.array([found[places].sum() for places in self._of_feature])


def milliseconds(calls):
    """Medians of calls that alternate, so that a busy machine hits all of them alike."""
    found = [[] for _ in calls[0]]
    for row in calls:
        for times, call in zip(found, row, strict=True):
            began = time.perf_counter()
            call()
            times.append((time.perf_counter() - began) * 1e3)
    return [float(np.median(times)) for times in found]


def compared(rows, holdout, family, parameters, n):
    """Median times of both ways over `n` records, their ratio, and the largest difference of a contribution."""
    candidate, ours = fitted(rows, family, parameters)
    ordinary = OrdinaryWay(candidate, rows.features)
    frames = [holdout.features.iloc[[place]] for place in range(n)]
    records = [frame.to_numpy()[0].tolist() for frame in frames]
    matrices = [ordinary.prepared(frame) for frame in frames]
    differences = [
        np.abs(ours.additive.contributions(record) - ordinary.explained(matrix)).max()
        for record, matrix in zip(records, matrices, strict=True)
    ]
    calls = [
        (
            lambda record=record: ours.explain(record),
            lambda frame=frame: ordinary.explained(ordinary.prepared(frame)),
            lambda matrix=matrix: ordinary.explained(matrix),
            lambda record=record: ours.additive.contributions(record),
        )
        for record, frame, matrix in zip(records, frames, matrices, strict=True)
    ]
    explanation, ordinary_way, shap_alone, values_alone = milliseconds(calls)
    return {
        "ours p50 ms": round(explanation, 3),
        "shap the ordinary way p50 ms": round(ordinary_way, 3),
        "times faster": round(ordinary_way / explanation, 1),
        "values alone: ours, shap ms": [round(values_alone, 3), round(shap_alone, 3)],
        "times faster, values alone": round(shap_alone / values_alone, 1),
        "largest difference": float(f"{max(differences):.1e}"),
        "conditions": ours.additive.cost,
    }


def footprint(imports):
    """Seconds and resident megabytes of a fresh process with these imports."""
    found = subprocess.run([sys.executable, "-c", _FOOTPRINT.format(imports=imports)], check=True, capture_output=True)
    seconds, megabytes = json.loads(found.stdout)
    return {"import s": round(seconds, 2), "MB": round(megabytes)}


def main():
    """Print every figure as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--employees", type=int, default=8_000)
    parser.add_argument("--records", type=int, default=200)
    options = parser.parse_args()
    warnings.simplefilter("ignore")

    def show(name, figures):
        sys.stdout.write(json.dumps({name: figures}) + "\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory() as folder, one_thread():
        whole = table(Path(folder), options.employees)
        cut = len(whole) - options.records
        rows, holdout = whole.take(np.arange(cut)), whole.take(np.arange(cut, len(whole)))
        for name, (family, parameters) in CONFIGURATIONS.items():
            show(name, compared(rows, holdout, family, parameters, options.records))
    show("process with our explainer", footprint("from attrition.scoring.explainer import Explainer"))
    show("process with shap", footprint("import shap, sklearn.ensemble"))


if __name__ == "__main__":
    main()

"""Decisions to retrain: how often without a reason, and how soon with one.

    python tests/benchmarks/bench_retraining.py                          # 60 companies in which nothing changes
    python tests/benchmarks/bench_retraining.py --scenario flexible_hours --companies 20

Each company is another one, with a first version of its own (gradient boosting, judged on people whom it did not learn
from, in the last quarter of its history). Then, quarter after quarter, the shipped decision table sees the quarter's
features against those of training, and the labels of the year before. Nobody retrains, so every quarter is judged
against the same holdout, whose luck it shares.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter

import numpy as np

QUARTERS = 8


def decisions(seed, scenario, policy):
    """Verdicts of the quarters of one company."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    from attrition.data.schema import FeatureSchema
    from attrition.evaluation.auc import auc_delong
    from attrition.evaluation.intervals import proportion
    from attrition.evaluation.references import DriftReference
    from attrition.monitoring.drift import compare, overall
    from attrition.retraining.policy import Covariates, Evidence, Realised, decide
    from attrition.retraining.simulated_world import make_world

    schema = FeatureSchema.default()
    names = list(schema.names)
    world = make_world(QUARTERS, n_employees=4_000, seed=seed, scenario=scenario, drift_quarter=1)
    history = world.history()
    held = np.array([hashlib.sha256(f"{seed} {each}".encode()).digest()[0] < 64 for each in history["employee_id"]])
    train = history[~held]
    judged = history[held & (history["snapshot_date"] == history["snapshot_date"].max())]
    version = HistGradientBoostingClassifier(
        max_iter=120, learning_rate=0.08, max_leaf_nodes=6, min_samples_leaf=40, random_state=0
    ).fit(train[names].astype(float), train["attrition"])
    reference = DriftReference.of(train[names].astype(float), schema)

    def measured(rows, truth):
        score = version.predict_proba(rows[names].astype(float))[:, 1]
        hits = int(((score >= 0.5) == (truth == 1)).sum())
        return auc_delong(truth, score), proportion(hits, len(truth))

    baseline = measured(judged, judged["attrition"].to_numpy())
    for quarter in range(1, QUARTERS + 1):
        drifts = compare(
            reference.features,
            reference.sketch({name: world.staff(quarter)[name].to_numpy(float) for name in names}),
        )
        moved = {each.feature: each.mean_shift_percent for each in drifts if each.level.drifted}
        mature = quarter - 4
        real = measured(world.staff(mature), world.truth(mature).to_numpy())
        evidence = Evidence(
            "1.0.0",
            *baseline,
            Covariates("", "", len(world.staff(quarter)), str(overall(drifts)), moved),
            Realised(str(mature), *real),
        )
        yield str(decide(evidence, policy).verdict)


def main():
    """Parse, run, print."""
    from threadpoolctl import threadpool_limits

    from attrition.retraining.policy import RetrainingPolicy

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="none")
    parser.add_argument("--companies", type=int, default=60)
    options = parser.parse_args()
    policy = RetrainingPolicy.load()
    with threadpool_limits(1):
        found = [list(decisions(seed, options.scenario, policy)) for seed in range(options.companies)]
    sys.stdout.write(f"{options.companies} companies, scenario {options.scenario} from quarter 1 on, nobody retrains\n")
    sys.stdout.write(f"{'quarter':>8} {'HOLD':>6} {'INVESTIGATE':>12} {'RETRAIN':>8}\n")
    for place in range(QUARTERS):
        counts = Counter(each[place] for each in found)
        sys.stdout.write(f"{place + 1:>8} {counts['HOLD']:>6} {counts['INVESTIGATE']:>12} {counts['RETRAIN']:>8}\n")
    for verdict in ("INVESTIGATE", "RETRAIN"):
        quarters = sum(each.count(verdict) for each in found) / (QUARTERS * len(found))
        companies = sum(verdict in each for each in found) / len(found)
        sys.stdout.write(f"{verdict}: {quarters:.1%} of the quarters, {companies:.1%} of the companies at some time\n")


if __name__ == "__main__":
    main()

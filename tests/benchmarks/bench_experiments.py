"""Experiments: wrong decisions under continuous peeking, coverage over time, power and stopping times.

    python tests/benchmarks/bench_experiments.py level      # 2,000 experiments without a difference
    python tests/benchmarks/bench_experiments.py coverage   # how often the truth ever leaves its confidence sequence
    python tests/benchmarks/bench_experiments.py power      # with a difference: how often found, and after how long

`level` looks after every batch and counts the experiments in which any look rejected: each metric alone, two-sided at
5 %, and the verdict of five metrics together. Beside it stands a chi-square test (of means: a z-test; of pairs:
McNemar's) that is looked at as often, and once at the end.
"""

from __future__ import annotations

import argparse
import math
import sys
import time

import numpy as np

ALPHA = 0.05
SHARE = 0.5


def rates(rng, n_paths, n_looks, batch, p0, p1, share=SHARE):
    """Cumulative counts of both variants, shape (n_paths, n_looks), as the split draws them."""
    size = rng.binomial(batch, share, (n_paths, n_looks))
    k1, k0 = rng.binomial(size, p1), rng.binomial(batch - size, p0)
    return tuple(np.cumsum(each, axis=1) for each in (k0, batch - size, k1, size))


def ever(decided):
    """Share of the paths with any such look."""
    return float(np.mean(np.any(decided, axis=1)))


def refuted(evidence_above, evidence_below, alpha=ALPHA):
    """Looks at which a value is outside its confidence sequence."""
    return (evidence_above >= math.log(2 / alpha)) | (evidence_below >= math.log(2 / alpha))


def z_of_rates(k0, n0, k1, n1):
    """Root of the chi-square statistic."""
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (k0 + k1) / (n0 + n1)
        return (k1 / n1 - k0 / n0) / np.sqrt(pooled * (1 - pooled) * (1 / n0 + 1 / n1))


def rate_looks(rng, n_paths, n_looks, batch, p0, p1, weight, share=SHARE):
    """Looks at which the true difference of two rates is refuted; the same by chi-square where it is 0."""
    from attrition.experiments.sequential import rate_evidence

    counts = rates(rng, n_paths, n_looks, batch, p0, p1, share)
    above = rate_evidence(*counts, p1 - p0, weight=weight, side=1)
    below = rate_evidence(*counts, p1 - p0, weight=weight, side=-1)
    return refuted(above, below), np.abs(z_of_rates(*counts)) > 1.96


def mean_looks(rng, n_paths, n_looks, batch, draw, truth, weight, first):
    """The same for a difference of two means; `draw` gives values of both variants."""
    from attrition.experiments.sequential import information, mean_evidence

    looks = np.arange(1, n_looks + 1) * batch
    sums = np.zeros((2, 2, n_paths, n_looks))
    for path in range(n_paths):
        for arm in (0, 1):
            values = draw(rng, arm, batch * n_looks)
            for power in (1, 2):
                sums[arm, power - 1, path] = np.cumsum(values**power)[looks - 1]
    means = sums[:, 0] / looks
    variances = (sums[:, 1] - looks * means**2) / (looks - 1)
    error = np.sqrt(variances.sum(axis=0) / looks)
    difference = means[1] - means[0]
    ratio = information(looks, looks, weight)
    out = refuted(
        mean_evidence(difference, error, ratio, truth, side=1), mean_evidence(difference, error, ratio, truth, side=-1)
    )
    enough = looks >= first
    return out & enough, (np.abs(difference - truth) / error > 1.96) & enough


def quantile_looks(rng, n_paths, n_looks, batch, quantile, weight):
    """The same for a quantile of two equal distributions, against a median test at that quantile."""
    from attrition.experiments.samples import Distribution
    from attrition.experiments.sequential import quantile_evidence

    edges = np.arange(1, 401) / 400
    out, naive = np.zeros((2, n_paths, n_looks), bool)
    for path in range(n_paths):
        counts = rng.multinomial(batch, np.full(400, 1 / 400), (2, n_looks)).cumsum(axis=1)
        for look in range(n_looks):
            n = batch * (look + 1)
            one, other = (Distribution(n, 0.5, 1 / 12, edges, counts[arm, look]) for arm in (0, 1))
            above = quantile_evidence(one, other, quantile, 0.0, weight=weight, side=1)
            below = quantile_evidence(one, other, quantile, 0.0, weight=weight, side=-1)
            out[path, look] = max(above, below) >= math.log(2 / ALPHA)
            both = np.cumsum(counts[:, look], axis=1)
            at = np.searchsorted(both.sum(axis=0), 2 * n * quantile)
            naive[path, look] = abs(z_of_rates(both[0, at], n, both[1, at], n)) > 1.96
    return out, naive


def paired_looks(rng, n_paths, n_looks, batch, worse, better, weight):
    """The same for pairs, against McNemar's chi-square."""
    from attrition.experiments.paired import paired_evidence

    w = rng.binomial(batch, worse, (n_paths, n_looks))
    b = np.cumsum(rng.binomial(batch - w, better / (1 - worse)), axis=1)
    w, n = np.cumsum(w, axis=1), batch * np.arange(1, n_looks + 1)
    truth = worse - better
    above = paired_evidence(w, b, n, truth, weight=weight, side=1)
    below = paired_evidence(w, b, n, truth, weight=weight, side=-1)
    return refuted(above, below), (w - b) ** 2 > 1.96**2 * np.maximum(w + b, 1)


def ratio_looks(rng, n_paths, n_looks, batch, share, alpha):
    """Looks at which a sound split is called mismatched, sequentially and by chi-square."""
    from attrition.experiments.ratio_mismatch import ratio_evidence

    shares = np.array([1 - share, share])
    counts = rng.multinomial(batch, shares, (n_paths, n_looks)).cumsum(axis=1)
    n = counts.sum(axis=-1, keepdims=True)
    statistic = ((counts - n * shares) ** 2 / (n * shares)).sum(axis=-1)
    return ratio_evidence(counts, shares) >= -math.log(alpha), statistic > 10.828  # chi-square at 0.001


def latencies(rng, arm, n):
    """Log-normal, as latencies are: median 8 ms."""
    return rng.lognormal(math.log(8.0), 0.6, n)


def scores(rng, arm, n):
    """Skewed probabilities."""
    return rng.beta(1.0, 6.0, n)


def verdict_looks(rng, n_paths, n_looks, batch):
    """Looks at which five metrics together, without a difference and without any margin, decide anything."""
    from attrition.experiments.plan import ExperimentPlan
    from attrition.experiments.sequential import rate_evidence

    plan = ExperimentPlan(name="level", control="1.0.0", challenger="1.1.0")
    worse = np.zeros((n_paths, n_looks), bool)
    better = np.ones((n_paths, n_looks), bool)
    for rate in (0.005, 0.12, 0.12, 0.15, 0.3):
        counts = rates(rng, n_paths, n_looks, batch, rate, rate)
        worse |= rate_evidence(*counts, 0.0, weight=50, side=1) >= -math.log(plan.harm_alpha)
        better &= rate_evidence(*counts, 0.0, weight=50, side=-1) >= -math.log(plan.promote_alpha)
    return worse | better


def level(n_paths, n_looks):
    """Wrong decisions without a difference."""
    rng = np.random.default_rng(11)
    say(f"{n_paths:,} experiments without a difference, {n_looks} looks each, alpha {ALPHA}")
    say(f"{'metric':<38} {'sequential':>10} {'chi-square, peeking':>20} {'chi-square, once':>17} {'s':>6}")
    for name, rate, batch, weight, share in (
        ("error rate 0.5 %, 50:50", 0.005, 400, 125, 0.5),
        ("error rate 0.5 %, 95:5", 0.005, 2_000, 125, 0.05),
        ("FPR 12 %, 50:50", 0.12, 100, 50, 0.5),
        ("FNR 15 %, 90:10, few leavers", 0.15, 40, 12.5, 0.1),
    ):
        started = time.perf_counter()
        row(name, *rate_looks(rng, n_paths, n_looks, batch, rate, rate, weight, share), started)
    for name, draw, first in (("latency mean, log-normal", latencies, 100), ("score mean", scores, 100)):
        started = time.perf_counter()
        row(name, *mean_looks(rng, n_paths, n_looks, 50, draw, 0.0, 25, first), started)
    started = time.perf_counter()
    row("latency p95 (a quarter of the paths)", *quantile_looks(rng, n_paths // 4, n_looks, 50, 0.95, 50), started)
    started = time.perf_counter()
    row("pairs, 3 % disagree each way", *paired_looks(rng, n_paths, n_looks, 50, 0.03, 0.03, 50), started)
    started = time.perf_counter()
    say(f"{'verdict of five rates, no margins':<38} {ever(verdict_looks(rng, n_paths, n_looks, 100)):>10.3%}")
    sequential, chi_square = ratio_looks(rng, 5 * n_paths, n_looks, 100, 0.05, 0.001)
    say(f"{'sample ratio at alpha 0.001':<38} {ever(sequential):>10.3%} {ever(chi_square):>20.3%}")


def coverage(n_paths, n_looks):
    """How often the truth ever leaves its confidence sequence, with a difference."""
    rng = np.random.default_rng(12)
    say(f"{n_paths:,} experiments with a difference, {n_looks} looks each; the truth is ever missed, at most {ALPHA}:")
    for name, p0, p1, batch, weight, share in (
        ("errors 0.5 % → 0.4 %, 50:50", 0.005, 0.004, 400, 125, 0.5),
        ("errors 0.5 % → 2 %, 95:5", 0.005, 0.02, 1_000, 125, 0.05),
        ("FPR 12 % → 8 %", 0.12, 0.08, 100, 50, 0.5),
        ("FNR 15 % → 14 %, 90:10", 0.15, 0.14, 100, 12.5, 0.1),
        ("rate 50 % → 60 %", 0.5, 0.6, 20, 12.5, 0.5),
    ):
        say(f"  {name:<36} {ever(rate_looks(rng, n_paths, n_looks, batch, p0, p1, weight, share)[0]):>8.3%}")

    def slower(rng, arm, n):
        return latencies(rng, arm, n) + 2.0 * arm

    say(f"  {'latency mean + 2 ms':<36} {ever(mean_looks(rng, n_paths, n_looks, 50, slower, 2.0, 25, 100)[0]):>8.3%}")
    found = ever(paired_looks(rng, n_paths, n_looks, 50, 0.02, 0.05, 50)[0])
    say(f"  {'pairs, 2 % worse and 5 % better':<36} {found:>8.3%}")


def power(n_paths):
    """With a difference: how often and when it is found, against one look."""
    from attrition.experiments.expectation import Expectation
    from attrition.experiments.plan import Metric
    from attrition.experiments.planning import fixed_size
    from attrition.experiments.sequential import information, mean_evidence, rate_evidence

    rng = np.random.default_rng(13)
    limit = math.log(2 / ALPHA)
    say(f"{n_paths:,} experiments, units of each variant; one look has a power of 80 % at its size, two-sided {ALPHA}")
    say("sequential: 48 looks until four times that size; asymptotic: the normal mixture on the same data")
    head = f"{'':<22} {'one look':>9} | {'power at it':>11} {'power at 4x':>11} {'mean stop':>10} {'median':>9}"
    say(f"{head} | {'asymptotic 4x':>13} {'mean stop':>10} | {'naive: mean stop':>16}")
    for p0, p1 in ((0.12, 0.08), (0.05, 0.03), (0.15, 0.11), (0.005, 0.002), (0.3, 0.25)):
        size = fixed_size(Expectation(Metric.FPR, p0, p1), share=0.5, alpha=ALPHA / 2, power=0.8)
        batch, n_looks = max(2 * size // 12, 2), 48
        weight = size / 16
        counts = rates(rng, n_paths, n_looks, batch, p0, p1)
        units = np.arange(1, n_looks + 1) * batch / 2
        found = rate_evidence(*counts, 0.0, weight=weight, side=-1) >= limit
        z = z_of_rates(*counts)
        k0, n0, k1, n1 = (each.astype(float) for each in counts)
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.sqrt(k0 / n0 * (1 - k0 / n0) / n0 + k1 / n1 * (1 - k1 / n1) / n1)
            normal = mean_evidence(k1 / n1 - k0 / n0, error, information(n0, n1, weight), 0.0, side=-1) >= limit
        at_size = float(np.mean(np.any(found[:, : np.searchsorted(units, size, "right")], axis=1)))
        mean, median = stopping(found, units)
        figures = f"{f'{p0:.1%} → {p1:.1%}':<22} {size:>9,} | {at_size:>11.1%} {ever(found):>11.1%} {mean:>10,.0f}"
        beside = f"{ever(normal):>13.1%} {stopping(normal, units)[0]:>10,.0f}"
        say(f"{figures} {median:>9,.0f} | {beside} | {stopping(z < -1.96, units)[0]:>16,.0f}")


def stopping(found, units):
    """Mean and median units at which paths are decided; undecided ones count with the last look."""
    first = np.where(found.any(axis=1), units[np.argmax(found, axis=1)], units[-1])
    return float(first.mean()), float(np.median(first))


def row(name, sequential, naive, started):
    seconds = time.perf_counter() - started
    say(
        f"{name:<38} {ever(sequential):>10.3%} {ever(naive):>20.1%} {float(naive[:, -1].mean()):>17.1%} {seconds:>6.0f}"
    )


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["level", "coverage", "power"])
    parser.add_argument("--paths", type=int, default=2_000)
    parser.add_argument("--looks", type=int, default=50)
    given = parser.parse_args()
    if given.what == "power":
        power(given.paths)
    else:
        {"level": level, "coverage": coverage}[given.what](given.paths, given.looks)


if __name__ == "__main__":
    main()

"""The immediate guard: whether a challenger breaks a hard limit right now, by what its replicas count.

A limit is a share that must not be exceeded: of failed requests, or of requests that take longer than so many
milliseconds. Few requests exceed it by chance, and one looks every second for days. So a limit counts as broken when as
many failures as were seen would come up with probability `P_VALUE` at most if the true share were just the limit (exact
binomial tail). At a limit of 2 %, four failures in a row are enough, or twelve among a hundred.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from attrition.experiments.samples import Errors
from attrition.serving.vitals import Vitals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from attrition.release.rollout_plan import GuardLimits
    from attrition.serving.vitals import Reading

P_VALUE = 1e-6
"""Of a false alarm per look; at a look per second, once in eleven days for a version exactly on its limit."""


class Watch:
    """What each version did, over all replicas: within the last seconds, and since it was last reset.

    Parameters
    ----------
    seconds : float
        Length of the window.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._before: dict[str, Mapping[str, Vitals]] = {}
        self._added: deque[tuple[float, str, Vitals]] = deque()
        self._totals: dict[str, Vitals] = {}

    def take(self, readings: Iterable[Reading], now: float) -> None:
        """Take in what replicas have counted; one that is missing is read later.

        Of a replica that is met for the first time, what it has counted so far is new only when it was started since
        the first call.

        Parameters
        ----------
        now
            Seconds of a clock that only goes forward.
        """
        self._since = now if self._since is None else self._since
        for reading in readings:
            before = self._before.get(reading.replica)
            if before is None and reading.age_seconds < now - self._since:
                before = {}
            if before is not None:
                for version, vitals in reading.vitals.items():
                    added = vitals.since(before.get(version, Vitals()))
                    self._added.append((now, version, added))
                    self._totals.setdefault(version, Vitals()).add(added)
            self._before[reading.replica] = reading.vitals
        while self._added and self._added[0][0] <= now - self._seconds:
            self._added.popleft()

    def window(self, version: str) -> Vitals:
        """What a version did within the window."""
        total = Vitals()
        for _, name, added in self._added:
            if name == version:
                total.add(added)
        return total

    def requests(self, version: str, *, shadow: bool) -> Errors:
        """Requests of a version since the last reset, and how many of them failed."""
        total = self._totals.get(version, Vitals())
        failed = total.shadow_failed if shadow else total.failed
        answered = total.shadow_answered if shadow else total.answered
        return Errors(answered + failed, failed, "replicas, since the controller met the step")

    def reset(self) -> None:
        """Begin to count anew; the window stays."""
        self._totals = {}


def breach(limits: GuardLimits, seen: Vitals) -> str:
    """Which limit was broken, with the figures; empty when none was.

    Examples
    --------
    >>> from attrition.release.rollout_plan import GuardLimits
    >>> breach(GuardLimits(max_error_rate=0.02), Vitals(answered=98, failed=2))
    ''
    >>> breach(GuardLimits(max_error_rate=0.02), Vitals(answered=60, failed=20))
    'guard: 20 of 80 requests failed within 30 s (25.0 %; limit 2 %)'
    """
    failed = seen.failed + seen.shadow_failed
    n = failed + seen.answered + seen.shadow_answered
    if is_beyond(failed, n, limits.max_error_rate):
        share = f"{failed / n:.1%}".replace("%", " %")
        limit = f"{100 * limits.max_error_rate:g} %"
        return f"guard: {failed} of {n} requests failed within {limits.window:g} s ({share}; limit {limit})"
    slow, timed = seen.slower_than(limits.max_latency_ms / 1_000), seen.n_timed
    if is_beyond(slow, timed, limits.max_slow_share):
        share, limit = f"{slow / timed:.1%}".replace("%", " %"), f"{100 * limits.max_slow_share:g} %"
        what = f"took longer than {limits.max_latency_ms:g} ms within {limits.window:g} s"
        return f"guard: {slow} of {timed} requests {what} ({share}; limit {limit})"
    return ""


def is_beyond(k: int, n: int, limit: float) -> bool:
    """Whether `k` of `n` cannot be explained by a share of `limit`: P(X >= k) <= `P_VALUE`, X binomial."""
    from scipy.special import bdtrc

    return k > n * limit and (limit <= 0 or bool(bdtrc(k - 1, n, limit) <= P_VALUE))

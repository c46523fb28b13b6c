"""When a rollout's run is brought up to date."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from rollout_world import NOW, rollout

from attrition.release.rollout import Status
from attrition.release.rollout_tracking import chapter


def looked(minutes, verdict="CONTINUE", **changed):
    look = {"as_of": (NOW + timedelta(minutes=minutes)).isoformat(), "verdict": verdict}
    return rollout(step=1, entered_at=NOW, look=look, **changed)


def test_a_run_follows_status_and_verdict():
    """Whatever else stays."""
    assert chapter(rollout()) == chapter(rollout(trouble="no answer"))
    assert chapter(rollout()) != chapter(rollout(step=0))
    assert chapter(looked(5)) != chapter(looked(5, "PROMOTE"))
    assert chapter(looked(5)) != chapter(looked(5, status=Status.PAUSED))


def test_looks_are_logged_ever_more_rarely():
    """A look every minute for 400 days would be half a million."""
    chapters = [chapter(looked(minute)) for minute in range(60 * 24 * 7)]
    n_logged = 1 + sum(one != other for one, other in pairwise(chapters))
    assert 100 < n_logged < 200
    assert len(set(chapters[:10])) == 10

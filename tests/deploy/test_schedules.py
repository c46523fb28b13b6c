"""What runs by the clock or on demand: every command is one that our command line accepts."""

from __future__ import annotations

import pytest
from commands import parses
from manifests import named, of_kind, overlay, pods

from attrition.governance.access import RolePolicy
from attrition.governance.actions import Action


def test_scheduled_jobs_may_do_what_they_do():
    """The automation's role has every action that a schedule needs."""
    role = RolePolicy.default().roles["operator"]
    needed = {Action.DRIFT_VERDICT, Action.RETENTION, Action.AUDIT_EXPORT, Action.RETRAINING_DECISION}
    assert needed <= set(role.actions)


def schedules():
    """Command of each CronJob, by its name."""
    found = of_kind(overlay("production"), "CronJob")
    return {each["metadata"]["name"]: pods([each])[0].containers[0] for each in found}


COMMANDS = {
    "attrition-drift": ["drift", "run", "--window", "7d", "--reference", "champion"],
    "attrition-retraining": ["retrain", "--check"],
    "attrition-retention": ["privacy", "retain"],
    "attrition-audit-export": ["audit", "export", "$(ATTRITION_AUDIT_EXPORT)"],
    "attrition-compaction": ["predictions", "compact"],
}


def test_schedules_are_these():
    """By name, with drift on Monday at two."""
    assert {name: each["args"][each["args"].index("attrition") + 1 :] for name, each in schedules().items()} == COMMANDS
    drift = named(overlay("production"), "CronJob", "attrition-drift")["spec"]
    assert (drift["schedule"], drift["timeZone"], drift["concurrencyPolicy"]) == ("0 2 * * 1", "Etc/UTC", "Forbid")


@pytest.mark.parametrize("name", COMMANDS)
def test_scheduled_command_exists(name):
    """What Ray is to run is a command of ours with its options."""
    assert parses(COMMANDS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_submitting_command_exists(name):
    """So is what the pod itself runs, with an id that is the same in every try."""
    container = schedules()[name]
    assert container["command"] == ["attrition"]
    assert "--submission-id=$(JOB_NAME)" in container["args"]
    (job_name,) = [each for each in container["env"] if each["name"] == "JOB_NAME"]
    assert "batch.kubernetes.io/job-name" in job_name["valueFrom"]["fieldRef"]["fieldPath"]
    assert "--address=http://attrition-head-svc:8265" in container["args"]
    assert parses(container["args"])


def test_a_wrong_command_is_found():
    """The check itself can fail."""
    with pytest.raises(Exception, match="No such option"):
        parses(["drift", "run", "--windows", "7d"])
    with pytest.raises(Exception, match="No such command"):
        parses(["drift", "walk"])


def test_tuning_is_a_search_on_spot_nodes():
    """Its command exists, its workers are nobody's for long, its head is."""
    (job,) = of_kind(overlay("production/tuning"), "RayJob")
    program, *arguments = job["spec"]["entrypoint"].split()
    assert program == "attrition"
    assert parses(arguments)
    head, workers, submitter = pods([job])
    assert workers.spec["tolerations"][0]["key"] == "kubernetes.azure.com/scalesetpriority"
    assert workers.spec["nodeSelector"] == {"attrition/pool": "tuning"}
    assert "tolerations" not in head.spec
    assert "tolerations" not in submitter.spec
    rules = job["spec"]["deletionStrategy"]["deletionRules"]
    # what KubeRay's operator refuses beside its schema: two ways of cleaning up, suspension with rules, and to delete
    # the workers of an autoscaler
    assert not {"shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "suspend"} & set(job["spec"])
    for status in ("SUCCEEDED", "FAILED"):
        steps = [
            (r["policy"], r["condition"]["ttlSeconds"]) for r in rules if r["condition"].get("jobStatus") == status
        ]
        assert [policy for policy, _ in steps] == ["DeleteCluster", "DeleteSelf"]
        assert [seconds for _, seconds in steps] == sorted(seconds for _, seconds in steps)

"""Ray jobs under guard."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from attrition.errors import Fault, RayUnreachable
from attrition.governance.actions import Action

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from attrition.cluster.jobs import Job, Submitted
    from attrition.cluster.jobs import Jobs as ClusterJobs
    from attrition.governance.guard import Guard
    from attrition.settings import Settings


class Jobs:
    """Commands that run on the cluster; reached as ``Workspace.jobs``.

    A job acts with the credentials that the cluster gives it, not with those of who submits it. Every method raises
    ``AccessDenied`` for who may not do it, and ``RayUnreachable`` when no Ray dashboard answers. The `address` is the
    dashboard's, ``http://HOST:8265``; None is that of ``RAY_API_SERVER_ADDRESS``, of the settings' Ray, or of the local
    Ray that ``serve up`` started.
    """

    def __init__(self, settings: Settings, guard: Guard) -> None:
        self._settings = settings
        self._guard = guard

    def submit(
        self,
        command: Sequence[str],
        *,
        submission_id: str | None = None,
        working_dir: Path | None = None,
        num_cpus: float = 0.0,
        address: str | None = None,
        justification: str | None = None,
    ) -> Submitted:
        """Run a command on the cluster, unless a job of this id is there already.

        As :meth:`attrition.cluster.jobs.Jobs.submit`; on the local Ray the command works on this project's home.
        """
        program = " ".join(command[:2])  # further arguments may name people
        with self._guard.acting(Action.JOB, f"job {submission_id or '(new)'}", justification=justification) as entry:
            entry.details["command"] = program[:100]
            jobs, variables = self._jobs(address)
            submitted = jobs.submit(
                command, submission_id=submission_id, working_dir=working_dir, num_cpus=num_cpus, variables=variables
            )
            entry.details |= {"job": submitted.job.submission_id, "new": submitted.new}
            return submitted

    def list(self, *, address: str | None = None) -> builtins.list[Job]:
        """Every submitted job that the cluster remembers, oldest first."""
        self._guard.require(Action.JOB, "jobs")
        return self._jobs(address)[0].list()

    def show(self, submission_id: str, *, address: str | None = None) -> Job:
        """One job; ``NotFound`` when the cluster knows none by this id."""
        self._guard.require(Action.JOB, f"job {submission_id}")
        return self._jobs(address)[0].show(submission_id)

    def logs(self, submission_id: str, *, address: str | None = None) -> str:
        """What the command has printed so far."""
        self._guard.require(Action.JOB, f"job {submission_id}")
        return self._jobs(address)[0].logs(submission_id)

    def follow(self, submission_id: str, on_output: Callable[[str], None], *, address: str | None = None) -> Job:
        """Hand on what the command prints until it ends, and return how."""
        self._guard.require(Action.JOB, f"job {submission_id}")
        return self._jobs(address)[0].follow(submission_id, on_output)

    def stop(self, submission_id: str, *, address: str | None = None, justification: str | None = None) -> Job:
        """End a job and return once it has ended; one that ended before stays as it is."""
        with self._guard.acting(Action.JOB, f"job {submission_id}", justification=justification) as entry:
            job = self._jobs(address)[0].stop(submission_id)
            entry.details["status"] = job.status
            return job

    def _jobs(self, address: str | None) -> tuple[ClusterJobs, dict[str, str]]:
        """The job interface, and the environment that commands need there."""
        from attrition.cluster import endpoint
        from attrition.cluster.jobs import Jobs as ClusterJobs
        from attrition.cluster.local_head import find_local_head
        from attrition.cluster.ray_token import ray_token

        variables: dict[str, str] = {}
        address = address or os.environ.get("RAY_API_SERVER_ADDRESS")
        if address is None:
            control = endpoint.find(self._settings)
            if control is None:
                remedy = "give --address http://HOST:8265, or start a local Ray with `attrition serve up`"
                raise RayUnreachable(Fault("jobs", "there is no Ray to run them", "", remedy))
            address = control.dashboard_url
        local = find_local_head(self._settings)
        if local is not None and local.dashboard_url == address.rstrip("/"):
            variables["ATTRITION_HOME"] = str(self._settings.home)
        return ClusterJobs(address, token=ray_token()), variables

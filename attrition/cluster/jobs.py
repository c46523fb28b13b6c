"""Ray jobs: a command that runs on the cluster instead of here, submitted once however often it is asked for.

A submission id makes a job idempotent: Ray takes an id once, so a schedule that names its jobs by date can be fired,
retried and repeated by hand, and the command runs one time. What runs as a job is a command line, so whoever may reach
the job interface of a cluster can run code there; that is what Ray's token and the network policies are for.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attrition.cluster.environment import environment
from attrition.errors import Fault, NotFound, PlatformError, RayUnreachable, UsageError

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ray.job_submission import JobDetails, JobSubmissionClient

ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
"""States in which a job stays."""

AGENT_TIMEOUT_SECONDS = 60.0
"""How long a cluster that has just started may have no agent that takes jobs."""

_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the cluster knows it.

    Attributes
    ----------
    submission_id : str
        Its name; unique on the cluster.
    status : str
        ``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED`` or ``STOPPED``.
    command : str
        Command line.
    message : str
        What Ray says about the status.
    started_at, ended_at : datetime or None
        UTC.
    exit_code : int or None
        Of the command; None before its end, and when it was ended from outside.
    """

    submission_id: str
    status: str
    command: str
    message: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None

    @property
    def ended(self) -> bool:
        """Whether the status is final."""
        return self.status in ENDED

    def to_dict(self) -> dict[str, Any]:
        """The fields; times in ISO 8601."""
        fields = asdict(self)
        times = {name: fields[name] and fields[name].isoformat() for name in ("started_at", "ended_at")}
        return {**fields, **times}


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job, and whether this call brought it to the cluster (False: it was there by this id)."""

    job: Job
    new: bool


class Jobs:
    """The job interface of one cluster.

    Parameters
    ----------
    address
        Of the Ray dashboard: ``http://HOST:8265``.
    token
        Ray's authentication token; empty when authentication is off.
    """

    def __init__(self, address: str, *, token: str = "") -> None:
        if not address.startswith(("http://", "https://")):
            raise UsageError(
                Fault(f"address {address}", "is no dashboard's", "jobs are submitted to http://HOST:8265", "give that")
            )
        self.address = address.rstrip("/")
        self._token = token
        self._connected: JobSubmissionClient | None = None

    def submit(
        self,
        command: Sequence[str],
        *,
        submission_id: str | None = None,
        working_dir: Path | None = None,
        variables: Mapping[str, str] | None = None,
        num_cpus: float = 0.0,
    ) -> Submitted:
        """Run a command on the cluster, unless a job of this id is there already.

        Parameters
        ----------
        command
            The program and its arguments; no shell reads them.
        submission_id
            Makes the call idempotent; None lets Ray choose.
        working_dir
            Folder that is uploaded and that the command starts in.
        variables
            Environment of the command, readable by everybody who can list jobs: nothing secret.
        num_cpus
            Cores reserved for the command itself; what it starts on Ray reserves its own.

        Raises
        ------
        UsageError
            No command, or the id belongs to another command.
        RayUnreachable, PlatformError
            Nobody answers, or no node takes jobs.
        """
        if not command:
            raise UsageError(Fault("job", "has no command", "", "attrition jobs submit -- attrition drift run"))
        entrypoint = shlex.join(command)
        if submission_id is not None and (known := self._find(submission_id)) is not None:
            return Submitted(_same(known, entrypoint), new=False)
        runtime: dict[str, Any] = {"env_vars": dict(variables)} if variables else {}
        if working_dir is not None:
            runtime["working_dir"] = str(working_dir)
        until = time.monotonic() + AGENT_TIMEOUT_SECONDS
        while True:
            try:
                with self._asking():
                    given = self._client().submit_job(
                        entrypoint=entrypoint,
                        submission_id=submission_id,
                        runtime_env=runtime,
                        entrypoint_num_cpus=num_cpus or None,
                    )
                return Submitted(self.show(given), new=True)
            except PlatformError as error:
                if submission_id is not None and (known := self._find(submission_id)) is not None:
                    # somebody was quicker, or the answer to our own request was lost
                    return Submitted(_same(known, entrypoint), new=False)
                if "No available agent" not in str(error.__cause__) or time.monotonic() > until:
                    raise
                time.sleep(_POLL_SECONDS)

    def list(self) -> builtins.list[Job]:
        """Every submitted job that the cluster remembers, oldest first."""
        with self._asking():
            found = [_job(details) for details in self._client().list_jobs() if details.submission_id]
        return sorted(found, key=lambda job: (job.started_at or datetime.min.replace(tzinfo=UTC), job.submission_id))

    def show(self, submission_id: str) -> Job:
        """One job.

        Raises
        ------
        NotFound
            The cluster knows none by this id.
        """
        known = self._find(submission_id)
        if known is None:
            raise NotFound(Fault(f"job {submission_id}", "is not known to this cluster", "", "attrition jobs list"))
        return known

    def logs(self, submission_id: str) -> str:
        """What the command has printed so far."""
        self.show(submission_id)
        with self._asking():
            text: str = self._client().get_job_logs(submission_id)
        return text

    def follow(self, submission_id: str, on_output: Callable[[str], None]) -> Job:
        """Hand on what the command prints until it ends, and return how.

        A connection that breaks is made anew, without a line lost or repeated.
        """
        n_seen = 0
        job = self.show(submission_id)
        while True:
            with self._asking():
                n_seen = asyncio.run(self._tail(submission_id, n_seen, on_output))
            job = self.show(submission_id)
            if job.ended:
                return job
            time.sleep(_POLL_SECONDS)

    def stop(self, submission_id: str, *, timeout_seconds: float = 60.0) -> Job:
        """End a job and return once it has ended; one that ended before stays as it is.

        Raises
        ------
        NotFound
            The cluster knows none by this id.
        PlatformError
            It still runs after the timeout.
        """
        job = self.show(submission_id)
        if job.ended:
            return job
        with self._asking():
            self._client().stop_job(submission_id)
        until = time.monotonic() + timeout_seconds
        while not (job := self.show(submission_id)).ended:
            if time.monotonic() > until:
                raise PlatformError(Fault(f"job {submission_id}", f"still runs {timeout_seconds:.0f} s after the stop"))
            time.sleep(_POLL_SECONDS)
        return job

    def _client(self) -> JobSubmissionClient:
        if self._connected is None:
            from ray.job_submission import JobSubmissionClient

            headers = {"Authorization": f"Bearer {self._token}"} if self._token else None
            # Ray's client prefers its variables to the address that it is given
            with environment({"RAY_API_SERVER_ADDRESS": self.address}):
                self._connected = JobSubmissionClient(self.address, headers=headers)
        return self._connected

    def _find(self, submission_id: str) -> Job | None:
        with self._asking():
            for details in self._client().list_jobs():
                if details.submission_id == submission_id:
                    return _job(details)
        return None

    async def _tail(self, submission_id: str, n_seen: int, on_output: Callable[[str], None]) -> int:
        """Hand on what follows the first `n_seen` characters; how many there are when the connection ends."""
        n_read = 0
        try:
            async for text in self._client().tail_job_logs(submission_id):
                fresh = text[max(0, n_seen - n_read) :]
                n_read += len(text)
                if fresh:
                    on_output(fresh)
        except RuntimeError:
            # Ray's word for a broken connection, which follow() makes anew while the cluster answers
            pass
        return max(n_read, n_seen)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """What Ray's client raises, as errors of ours."""
        import aiohttp
        import requests
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            remedy = "set RAY_AUTH_TOKEN to the cluster's token, or RAY_AUTH_TOKEN_PATH to its file"
            raise RayUnreachable(
                Fault(self.address, "Ray asks for a token, or refuses this one", "", remedy)
            ) from error
        except (ConnectionError, requests.exceptions.RequestException, aiohttp.ClientError) as error:
            raise RayUnreachable(
                Fault(self.address, "no Ray dashboard answers", "", "check the address, and that the cluster runs")
            ) from error
        except RuntimeError as error:
            # Ray appends the traceback of its server
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise PlatformError(Fault(f"jobs at {self.address}", first[:300], "", "see the Ray dashboard")) from error


def _same(known: Job, entrypoint: str) -> Job:
    """The job of an id, when it is the one that is meant."""
    if known.command != entrypoint:
        raise UsageError(
            Fault(
                f"job {known.submission_id}",
                "belongs to another command",
                "an id stands for one command for ever",
                "choose another id",
            )
        )
    return known


def _job(details: JobDetails) -> Job:
    assert details.submission_id is not None  # jobs of interactive drivers have none, and are left out
    return Job(
        details.submission_id,
        str(details.status.value),
        details.entrypoint,
        details.message or "",
        _moment(details.start_time),
        _moment(details.end_time),
        details.driver_exit_code,
    )


def _moment(milliseconds: int | None) -> datetime | None:
    return None if not milliseconds else datetime.fromtimestamp(milliseconds / 1000, UTC)

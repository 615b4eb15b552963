"""A build handed to a running Ray cluster, and followed to its end, then or later.

What travels: our code and that of the model, each as a wheel (`py_modules`), and the spec with its
paths made absolute, alone in a working directory. The cluster must have the packages that we build
with (`cluster/Dockerfile`) and, at the same paths or URLs, the images, the weights and the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from ray.exceptions import RayError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from circuit_atlas.cluster.process import environment, signals_interrupt
from circuit_atlas.cluster.retries import one_line
from circuit_atlas.cluster.wheel import build_model_wheel, build_wheel
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.storage_schema.errors import InfrastructureError, InputError

ENTRYPOINT = (
    "python -m circuit_atlas.service.commands.cli build spec.toml --address auto --plain-progress"
)
# With these set, the client would submit to another cluster than the address it is given.
_OVERRIDES = {"RAY_ADDRESS": None, "RAY_API_SERVER_ADDRESS": None}
# They report each file that is sent.
_CHATTY = (
    "ray._private.runtime_env.packaging",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)
# The job's status is written a moment after its log ends.
_PAUSE_S = 0.5
# A head that restarts, or a tunnel that is opened again, takes about a minute.
_PATIENCE_S = 120.0


def never() -> bool:
    """Says that a job is not to be stopped."""
    return False


def send(
    spec_path: str | Path, *, address: str, job: str | None = None, log_json: bool = False
) -> str:
    """Hands `circuit-atlas build` to the cluster and returns the job's id.

    Args:
        spec_path: the spec; it is checked here first.
        address: the URL of the cluster's job server, such as `http://head:8265`.
        job: the id that the job is to have: letters, digits and `_.-`. Default: Ray draws one.
        log_json: whether the job prints a structured log in place of progress. Default: not.

    Raises:
        InputError: the address is no job server's, the spec cannot be used, or there is a job of
            that id; nothing was submitted.
        InfrastructureError: no job server answers there, or it refuses.
    """
    _check_address(address)
    if job is not None and not re.fullmatch(r"[\w.-]+", job, re.ASCII):
        raise InputError(f"job id {job!r} cannot be used: give letters, digits, _, . and -")
    spec = BuildSpec.load(spec_path)
    with _answering(f"cannot submit to {address!r}"):
        client = _client(address)
        try:
            return _send(client, spec, job, ENTRYPOINT + (" --log-json" if log_json else ""))
        except RuntimeError:
            known = job and _details(client, job)
            if not known:
                raise
    raise InputError(
        f"there is a job {job!r} already ({known.status.value.lower()}): follow it by "
        f"`circuit-atlas submit --follow {job} --address {address}`, or give another id"
    )


def follow(
    job: str,
    *,
    address: str,
    on_log: Callable[[str], None],
    ask_to_stop: Callable[[], bool] = never,
) -> int:
    """Passes on what a job prints, from its start, until it ends; returns its exit code.

    Args:
        job: its id.
        address: as of `send`.
        on_log: receives the job's output as it comes, some lines at a time, line ends included.
        ask_to_stop: is called after Ctrl-C, and says whether to stop the job too. Default: not.

    Raises:
        InputError: the address is no job server's, or knows no such job.
        InfrastructureError: no job server answers there, or the job ended without an exit code:
            it could not be set up, was stopped, or its machine was lost.
        KeyboardInterrupt: Ctrl-C ended the following, and the job where `ask_to_stop` said so; or
            SIGTERM or SIGHUP did, after which nobody is asked. `on_log` is told what became of it.
    """
    _check_address(address)
    with _answering(f"cannot ask {address!r} for a job"):
        client = _client(address)
        found = _details(client, job)
    if found is None:
        raise InputError(
            f"there is no job {job!r} at {address}: `ray job list --address {address}` names those "
            "that there are"
        )
    try:
        with signals_interrupt():
            details = _follow(client, job, on_log)
    except KeyboardInterrupt as ended:
        if not (ended.args in ((), (signal.SIGINT,)) and ask_to_stop()):
            on_log(
                f"\nno longer following; the job goes on: circuit-atlas submit --follow {job} "
                f"--address {address}; to stop it: ray job stop {job} --address {address}\n"
            )
            raise
        with _answering(f"cannot stop job {job}"):
            client.stop_job(job)
        on_log(f"\njob {job} is told to stop; what is committed stays\n")
        raise
    return _exit_code(job, details)


@contextlib.contextmanager
def _answering(doing: str) -> Iterator[None]:
    """InfrastructureError where the job server does not answer, or refuses."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise InfrastructureError(
            f"{doing}: {one_line(str(error))}; give the address of a Ray head's job server, such "
            "as http://HOST:8265"
        ) from error


def _client(address: str) -> JobSubmissionClient:
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    with environment(_OVERRIDES):
        return JobSubmissionClient(address)


def _details(client: JobSubmissionClient, job: str) -> JobDetails | None:
    """What is known of a job; None where there is none."""
    try:
        return client.get_job_info(job)
    except RuntimeError as error:
        if "does not exist" in str(error):
            return None
        raise


def _check_address(address: str) -> None:
    """InputError unless it is the URL of a host: Ray's client takes any other text for a cluster to
    look for."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InputError(
            f"address {address!r} is no job server's: give http://HOST:8265, or https://HOST"
        )


def _send(client: JobSubmissionClient, spec: BuildSpec, job: str | None, entrypoint: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        wheels, work = Path(folder, "wheels"), Path(folder, "work")
        wheels.mkdir()
        work.mkdir()
        modules = [build_wheel(wheels)]
        if spec.model.code is not None:
            modules.append(build_model_wheel(wheels, Path(spec.model.code)))
        (work / "spec.toml").write_text(spec.without_code().to_toml(), encoding="utf-8")
        runtime = {"working_dir": str(work), "py_modules": [str(module) for module in modules]}
        sent: str = client.submit_job(entrypoint=entrypoint, runtime_env=runtime, submission_id=job)
        return sent


class _Log:
    """The job's output, passed on once though each connection brings it from its start."""

    def __init__(self, on_log: Callable[[str], None]) -> None:
        self._on_log = on_log
        self._seen = 0

    async def follow(self, client: JobSubmissionClient, job: str) -> None:
        position = 0
        async for text in client.tail_job_logs(job):
            self.show(text, position)
            position += len(text)

    def show(self, text: str, position: int = 0) -> None:
        """Pass on what of `text`, which stands at `position` of the log, is new."""
        new = text[max(0, self._seen - position) :]
        if new:
            self._on_log(new)
        self._seen = max(self._seen, position + len(text))


def _follow(client: JobSubmissionClient, job: str, on_log: Callable[[str], None]) -> JobDetails:
    """Pass the log on until the job has ended. A connection that breaks does not end a job."""
    log = _Log(on_log)
    answered_s = time.monotonic()
    told = False
    while True:
        broken = False
        try:
            with warnings.catch_warnings():
                # Ray's client asks for the connection in a way that newer versions of aiohttp
                # announce to end.
                warnings.filterwarnings("ignore", "ssl=None", DeprecationWarning)
                asyncio.run(log.follow(client, job))
        except (OSError, RuntimeError, aiohttp.ClientError):
            broken = True
        try:
            details = client.get_job_info(job)
            answered_s, told = time.monotonic(), False
            if details.status.is_terminal():
                if broken:
                    log.show(client.get_job_logs(job))
                return details
        except (OSError, RuntimeError) as error:
            if time.monotonic() - answered_s > _PATIENCE_S:
                raise InfrastructureError(
                    f"the job server has not answered for {_PATIENCE_S:.0f} s "
                    f"({one_line(str(error))}); the job may still run: ask `ray job status {job}`"
                ) from error
            if not told:
                told = True
                on_log(f"the job server does not answer; waiting for it {_PATIENCE_S:.0f} s\n")
        time.sleep(_PAUSE_S)


def _exit_code(job: str, details: JobDetails) -> int:
    if details.driver_exit_code is None:
        what = "was stopped" if details.status == JobStatus.STOPPED else "did not run to its end"
        raise InfrastructureError(
            f"job {job} {what}: {one_line(details.message or 'Ray gives no reason')}; "
            "what is committed stays, and submitting again resumes"
        )
    return int(details.driver_exit_code)

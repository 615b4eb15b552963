"""A build handed to a Ray head over its job server; the head is the test's own."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from circuit_atlas.cluster import submit as module
from circuit_atlas.cluster.submit import follow, send
from circuit_atlas.storage_schema.errors import InfrastructureError, InputError, SpecError
from circuit_atlas.storage_schema.reader import Reader
from tests.patience import PATIENCE_S, START_S, until

SPEC = """
[model]
reference = "demo:squeezenet1_1"
[images]
source = "pictures"
[[layers]]
name = "features.4.squeeze"
units = [0, 1]
[run]
store = "atlas"
"""

CODE = "from circuit_atlas.jobs.demo import squeezenet1_1 as network"
BUILD = """
[model]
reference = "submitted_network:network"
code = "code"
[preprocessing]
resize = [64, 64]
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
[images]
source = "demo:photos"
held_out = "odd"
limit = 4
[[layers]]
name = "features.3.squeeze"
units = [0, 1]
[circuits]
fractions = [1, 0.1]
top_images = 2
[run]
store = "atlas"
"""


def submit(spec: Path, *, address: str, on_log: Callable[[str], object]) -> int:
    """Handed over and followed, as the command does it."""
    job = send(spec, address=address)
    on_log(f"submitted as {job}\n")
    return follow(job, address=address, on_log=on_log)


@pytest.fixture(scope="module")
def head(private_home: Path) -> Iterator[str]:
    """A Ray head with a job server on a free port, ended as the child that it is: `ray stop` would
    end every Ray of this machine."""
    port, dashboard, agent, client = (free_port() for _ in range(4))
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
        f"--port={port}", f"--temp-dir={private_home / 'h'}", "--num-cpus=2",
        "--object-store-memory=100000000", "--disable-usage-stats", "--include-dashboard=true",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}",
    ]  # fmt: skip
    # Ray runs the first `python` and `pip` of the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # Else whether it asks for a token would depend on whether an earlier Ray left one in HOME.
    variables = {**os.environ, "PATH": path, "RAY_AUTH_MODE": "disabled"}
    with (private_home / "head.log").open("w") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, env=variables, cwd=private_home)
    try:
        address = f"http://127.0.0.1:{dashboard}"
        wait_for(address, child, private_home / "head.log")
        yield address
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(timeout=START_S)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_for(address: str, child: subprocess.Popen[bytes], log: Path) -> None:
    def answers() -> bool:
        assert child.poll() is None, log.read_text()
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{address}/api/version", timeout=PATIENCE_S).close()
            return True
        return False

    until(answers, f"Ray's job server at {address}", within_s=START_S)


@pytest.fixture
def cut_off() -> Iterator[None]:
    """For a test that cuts Ray's client off in the middle of a log: its session closes the
    connection then, but what stood for it is only told when it is collected."""
    yield
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unclosed connection", ResourceWarning)
        gc.collect()


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(SPEC)
    return path


def entrypoint(patch: pytest.MonkeyPatch, program: str) -> None:
    patch.setattr(module, "ENTRYPOINT", f'python -c "{program}"')


def line(text: str, start: str) -> str:
    """The line of the log that starts so; Ray also puts the entrypoint into it."""
    return next(line for line in text.splitlines() if line.startswith(start))


@pytest.mark.ray
def test_a_build_runs_there_with_the_models_code_and_can_be_followed_later(
    head: str, tmp_path: Path
) -> None:
    spec = tmp_path / "mine.toml"
    spec.write_text(BUILD)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "submitted_network.py").write_text(CODE)
    assert send(spec, address=head, job="mine_1.0-a") == "mine_1.0-a"
    (tmp_path / "code").rename(tmp_path / "moved")
    log: list[str] = []
    assert follow("mine_1.0-a", address=head, on_log=log.append) == 0, "".join(log)
    assert set(Reader(tmp_path / "atlas").commits("features.3.squeeze")) == {0, 1}
    assert "2/2 units" in "".join(log)
    again: list[str] = []
    assert follow("mine_1.0-a", address=head, on_log=again.append) == 0
    assert "".join(again) == "".join(log), "from its start"
    spec.write_text(SPEC)
    with pytest.raises(InputError) as caught:
        send(spec, address=head, job="mine_1.0-a")
    assert str(caught.value) == (
        "there is a job 'mine_1.0-a' already (succeeded): follow it by `circuit-atlas submit "
        f"--follow mine_1.0-a --address {head}`, or give another id"
    )
    with pytest.raises(InputError, match=r"^there is no job 'mine_2' at .*: `ray job list"):
        follow("mine_2", address=head, on_log=pytest.fail)


@pytest.mark.ray
def test_our_code_and_the_spec_arrive_and_the_exit_code_returns(
    head: str, spec: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Another cluster in the environment is not the one that was asked for.
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    entrypoint(
        monkeypatch,
        "import sys, time, circuit_atlas.cluster.wheel as wheel\n"
        "print('code at', wheel.__file__)\n"
        "print(open('spec.toml').read())\n"
        "time.sleep(2)\n"
        "print('the last line')\n"
        "sys.exit(7)",
    )
    log: list[str] = []
    assert submit(spec, address=head, on_log=log.append) == 7
    text = "".join(log)
    assert "py_modules_files" in line(text, "code at")
    assert f'source = "{tmp_path / "pictures"}"' in text, "paths are those of the spec's folder"
    assert f'store = "{tmp_path / "atlas"}"' in text
    assert line(text, "the last line")
    assert text.startswith("submitted as raysubmit_")


@pytest.mark.ray
def test_a_workers_ray_is_the_cluster_and_has_our_code_too(
    head: str, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entrypoint(
        monkeypatch,
        "import ray\n"
        "from circuit_atlas.cluster.ray_executor import RayExecutor\n"
        "with RayExecutor('auto'):\n"
        "    print(int(ray.cluster_resources()['CPU']), 'processors')\n"
        "    def where():\n"
        "        import circuit_atlas.jobs as jobs\n"
        "        return jobs.__file__\n"
        "    print('workers have', ray.get(ray.remote(where).remote()))\n",
    )
    log: list[str] = []
    assert submit(spec, address=head, on_log=log.append) == 0, "".join(log)
    text = "".join(log)
    assert line(text, "2 processors")
    assert "py_modules_files" in line(text, "workers have")


@pytest.mark.ray
@pytest.mark.usefixtures("cut_off")
def test_the_log_is_whole_where_the_connection_breaks(
    head: str, spec: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The job waits for each break: however Ray cuts its log, no connection sees it whole.
    entrypoint(
        monkeypatch,
        "import pathlib, time\n"
        "for number in range(30):\n"
        "    print('line', number, flush=True)\n"
        f"    while number in (9, 19) and not pathlib.Path('{tmp_path}', str(number)).exists():\n"
        "        time.sleep(0.05)\n",
    )
    follow = module.JobSubmissionClient.tail_job_logs
    breaks = [9, 19, 29]

    async def flaky(client: module.JobSubmissionClient, job: str) -> AsyncIterator[str]:
        async for text in follow(client, job):
            if not (breaks and f"line {breaks[0]}\n" in text):
                yield text
                continue
            number = breaks.pop(0)
            if breaks:
                yield text
                (tmp_path / str(number)).touch()
            else:  # The last lines are lost with the connection, and the job has ended.
                while not client.get_job_status(job).is_terminal():
                    time.sleep(0.05)
            raise RuntimeError("WebSocket connection closed unexpectedly")

    monkeypatch.setattr(module.JobSubmissionClient, "tail_job_logs", flaky)
    log: list[str] = []
    assert submit(spec, address=head, on_log=log.append) == 0
    lines = [line for line in "".join(log).splitlines() if line.startswith("line")]
    assert lines == [f"line {number}" for number in range(30)]
    assert not breaks


@pytest.mark.ray
@pytest.mark.usefixtures("cut_off")
def test_ctrl_c_stops_following_and_the_job_where_that_is_said(
    head: str, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entrypoint(monkeypatch, "import time\nprint('under way')\ntime.sleep(600)\n")
    log: list[str] = []
    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT]

    def on_log(text: str) -> None:
        log.append(text)
        if "under way\n" in text.splitlines(keepends=True):
            os.kill(os.getpid(), signals.pop(0))

    job = send(spec, address=head)
    with pytest.raises(KeyboardInterrupt):
        follow(job, address=head, on_log=on_log)
    goes_on = f"circuit-atlas submit --follow {job} --address {head}; to stop it: ray job"
    assert goes_on in log[-1]
    for _ in range(2):  # by a cluster or a closed terminal: nobody is there to be asked
        with pytest.raises(KeyboardInterrupt):
            follow(job, address=head, on_log=on_log, ask_to_stop=pytest.fail)
        assert goes_on in log[-1]
    client = module.JobSubmissionClient(head)
    assert client.get_job_status(job) == module.JobStatus.RUNNING
    with pytest.raises(KeyboardInterrupt):
        follow(job, address=head, on_log=on_log, ask_to_stop=lambda: True)
    assert log[-1] == f"\njob {job} is told to stop; what is committed stays\n"
    with pytest.raises(InfrastructureError, match=f"^job {job} was stopped: .*resumes$"):
        follow(job, address=head, on_log=log.append)


def test_a_job_server_that_is_gone_is_waited_for_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Client:
        """Of a server that gives no answer after the first."""

        answers = 1

        def get_job_info(self, job: str) -> str:
            self.answers -= 1
            if self.answers < 0:
                raise ConnectionError(f"nobody knows of {job}")
            return "running"

        async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
            yield "a line\n"
            raise ConnectionError(f"nobody knows of {job}")

    monkeypatch.setattr(module, "_client", lambda _: Client())
    monkeypatch.setattr(module, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(module, "_PAUSE_S", 0.01)
    log: list[str] = []
    with pytest.raises(InfrastructureError, match="the job may still run: ask `ray job status j`"):
        follow("j", address="http://head:8265", on_log=log.append)
    assert log == ["a line\n", "the job server does not answer; waiting for it 0 s\n"]


@pytest.mark.parametrize("log_json", [False, True])
def test_a_job_may_print_a_structured_log(
    spec: Path, monkeypatch: pytest.MonkeyPatch, log_json: bool
) -> None:
    class Client:
        def submit_job(self, *, entrypoint: str, **_: object) -> str:
            return entrypoint

    monkeypatch.setattr(module, "_client", lambda _: Client())
    sent = send(spec, address="http://head:8265", log_json=log_json)
    assert sent == module.ENTRYPOINT + (" --log-json" if log_json else "")


@pytest.mark.parametrize("job", ["", "a job", "../up", "a/b"])
def test_an_id_that_no_url_can_hold_is_refused(spec: Path, job: str) -> None:
    with pytest.raises(InputError, match="cannot be used: give letters, digits, _, "):
        send(spec, address="http://127.0.0.1:1", job=job)


def test_nobody_there_is_one_line(spec: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(InfrastructureError) as caught:
        submit(spec, address=address, on_log=pytest.fail)
    assert str(caught.value).startswith(f"cannot submit to '{address}': ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["", "auto", "head:8265", "ray://head:10001", "http://", "https://:1", "http://h:x"]
)
def test_an_address_that_is_no_job_servers_is_refused_first(tmp_path: Path, address: str) -> None:
    with pytest.raises(InputError, match=r"is no job server's: give http://HOST:8265") as caught:
        submit(tmp_path / "absent.toml", address=address, on_log=pytest.fail)
    assert type(caught.value) is InputError


def test_a_spec_that_cannot_be_used_is_not_submitted(tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        submit(tmp_path / "absent.toml", address="http://127.0.0.1:1", on_log=pytest.fail)

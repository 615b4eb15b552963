"""`circuit-atlas serve` as a program: it says where it is, and ends as it is told to."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.commands import exits, server
from circuit_atlas.service.commands.cli import main
from circuit_atlas.service.web.hosts import Hosts
from circuit_atlas.storage_schema.errors import InputError
from tests.patience import START_S
from tests.service.stores import started

# Tests that run in the background of a shell are deaf to Ctrl-C, and hand that down.
HEARING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from circuit_atlas.service.commands.cli import program
sys.argv.insert(1, "serve")
program()
"""
# A question that takes its time.
HANGING = """
import time
from circuit_atlas.service.web.server_state import ServerState
ServerState.snapshot = lambda self, name: time.sleep(600)
"""
# As if none of what builds need were installed.
LIGHT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "ray", "rich", "PIL", "pandas"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
from circuit_atlas.service.commands.cli import main
sys.exit(main(["serve", *sys.argv[1:]]))
"""


# It takes some 1.5 s; a machine that does much else takes longer.
HELD_UP_S = 20.0


@pytest.fixture(scope="module")
def running(location) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with started([sys.executable, "-c", LIGHT, str(location), "--port", "0"]) as found:
        yield found


def test_it_serves_without_what_builds_need(running, location):
    _, line = running
    found = re.fullmatch(
        rf"{location} is served at (http://127\.0\.0\.1:\d+) \(Ctrl-C stops\)\n", line
    )
    assert found, line
    address = found[1]
    api = f"{address}/api/v1/layers/conv3/units/0"
    for path in ("", "/circuit?keep=0.5", "/diagram", "/groups", "/map", "/similar", "/features"):
        assert httpx.get(f"{api}{path}").status_code == 200, path
    page = httpx.get(f"{address}/?page=unit&layer=conv3&unit=0")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert Atlas.open(address).layers == ("conv2", "conv3")
    assert "server" not in page.headers


def test_a_port_that_is_taken_is_one_line(running, location, capsys):
    port = running[1].split(":")[-1].split()[0]
    assert main(["serve", str(location), "--port", port]) == exits.BAD_INPUT
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"cannot listen at 127.0.0.1, port {port}: address already in use; choose" in err


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_it_with_one_line(location, times):
    with started([sys.executable, "-c", HEARING, str(location), "--port", "0", "--json"]) as (
        server,
        first,
    ):
        rest = first
        while not rest.rstrip().endswith("}"):
            rest += server.stdout.readline()
        address = json.loads(rest)["address"]
        with httpx.Client() as client:  # a connection that is kept open does not hold it up
            assert client.get(f"{address}/api/server").status_code == 200
            for _ in range(times):
                os.kill(server.pid, signal.SIGINT)
                time.sleep(0.05)  # two at once count as one
            out, err = server.communicate(timeout=START_S)
    assert (server.returncode, out) == (exits.INTERRUPTED, "")
    assert err == "\ncircuit-atlas: stopped\n"


def test_neither_who_does_not_read_nor_what_hangs_holds_it_up(location, tmp_path):
    atlas = tmp_path / "atlas"
    shutil.copytree(location, atlas)
    large = next((atlas / "prepared" / "pixels").iterdir())
    with large.open("r+b") as file:
        file.truncate(2**26)
    paths = f"objects/{large.relative_to(atlas)}", "layers/conv3"
    command = [sys.executable, "-c", HANGING + HEARING, str(atlas), "--port", "0"]
    with started(command) as (server, line), contextlib.ExitStack() as clients:
        address = urlsplit(line.split()[4])
        for path in paths:
            client = socket.create_connection((address.hostname, address.port))
            clients.enter_context(client)
            client.sendall(f"GET /api/v1/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            if path != paths[-1]:
                assert client.recv(15) == b"HTTP/1.1 200 OK"
        time.sleep(0.2)
        began_s = time.monotonic()
        os.kill(server.pid, signal.SIGINT)
        _, err = server.communicate(timeout=START_S)
        ended_s = time.monotonic() - began_s
    assert (server.returncode, err) == (exits.INTERRUPTED, "\ncircuit-atlas: stopped\n")
    assert ended_s < HELD_UP_S


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("LocalHost.:8000", 200),
        ("[::1]:8000", 200),
        ("192.0.2.7", 200),  # an address cannot be made to mean another machine
        ("evil.example", 403),
        ("evil.example:8000", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("[::1].evil.example", 403),
        ("", 403),
    ],
)
def test_a_page_of_another_site_cannot_read_it_by_a_name_of_its_own(running, host, status):
    address = running[1].split()[4]
    for path in ("/", "/api/server", "/api/v1/objects/atlas.json"):
        found = httpx.get(f"{address}{path}", headers={"Host": host})
        assert found.status_code == status, found.text
    if status == 403:
        assert f"no name {host!r}" in found.json()["error"]["message"]


def test_names_can_be_allowed(location):
    command = [sys.executable, "-m", "circuit_atlas.service.commands.cli", "serve", str(location)]
    command += ["--port", "0", "--allow-host", "Atlas.example"]
    with started(command) as (_, line):
        address = line.split()[4]
        for host, status in (("atlas.example:80", 200), ("localhost", 200), ("b.example", 403)):
            assert httpx.get(address, headers={"Host": host}).status_code == status


def test_heard_by_other_machines_it_answers_to_whatever_name_they_have_for_it():
    assert Hosts.of("0.0.0.0", "0.0.0.0", allowed=()).answers("atlas.example:8000")
    named = Hosts.of("0.0.0.0", "0.0.0.0", allowed=["atlas.example"])
    assert named.answers("atlas.example")
    assert not named.answers("evil.example")
    assert Hosts.of("my-machine", "127.0.1.1", allowed=()).answers("My-Machine:8000")
    assert not Hosts.of("localhost", "::1", allowed=()).answers("my-machine")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], exits.STORE, "nowhere does not exist: give the folder or URL of an atlas"),
        (["FOLDER"], exits.STORE, "holds no atlas"),
        (["http://127.0.0.1:9"], exits.STORE, "cannot open http://127.0.0.1:9"),
        (["ATLAS", "--port", "70000"], exits.BAD_INPUT, "70000 is not in the range"),
        (["ATLAS", "--host", "no such host"], exits.BAD_INPUT, "cannot listen at 'no such host'"),
        (
            ["ATLAS", "--host", "192.0.2.1"],
            exits.BAD_INPUT,
            "cannot listen at 192.0.2.1, port 8000",
        ),
    ],
)
def test_what_cannot_be_served_is_one_line(capsys, location, tmp_path, arguments, code, message):
    names = {"ATLAS": str(location), "FOLDER": str(tmp_path)}
    assert main(["serve", *(names.get(one, one) for one in arguments)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_without_the_extra_it_names_it(location):
    code = LIGHT.replace('"torch",', '"torch", "fastapi",')
    command = [sys.executable, "-c", code, str(location)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode == exits.BAD_INPUT
    assert done.stderr == (
        "circuit-atlas: error: this needs the package 'fastapi', which is not installed: "
        "python -m pip install 'circuit-atlas[serve]'\n"
    )


def test_listening_by_name_and_by_either_kind_of_address():
    for host in ("127.0.0.1", "localhost"):
        with server.listen(host, 0) as found:
            assert found.getsockname()[1] > 0
    with server.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}: address already in use"):
            server.listen("127.0.0.1", port)
    if socket.has_ipv6:
        try:
            found = server.listen("::1", 0)
        except InputError:
            return  # no such address on this machine
        with found:
            assert found.family == socket.AF_INET6

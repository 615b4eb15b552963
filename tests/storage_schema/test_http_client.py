"""Objects at a web server that misbehaves: what is taken, what is refused, and whom it leads to."""

from __future__ import annotations

import base64
import errno
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socket import AF_INET, AF_INET6, SOCK_STREAM, socket

import pytest

from circuit_atlas.storage_schema import http_connections, pace
from circuit_atlas.storage_schema.answer_errors import (
    MissingObjectError,
    StatusError,
    UnusableAnswerError,
    WholeObjectsError,
)
from circuit_atlas.storage_schema.http_address import HttpAddress
from circuit_atlas.storage_schema.http_client import HttpClient
from tests.patience import PATIENCE_S, START_S
from tests.storage_schema.answering import answering, redirecting, saying, sending

BODY = b"hello world"


def client(address: str, *, other_hosts: bool = False) -> HttpClient:
    return HttpClient(HttpAddress.of(address), other_hosts=other_hosts)


@contextmanager
def raw(answers: list[list[bytes]], *, pause_s: float = 0) -> Iterator[tuple[str, list[bytes]]]:
    """A server that sends each connection its pieces, one list a connection, whatever it is asked;
    the last one is sent for as long as anybody listens. And what it is asked."""
    asked: list[bytes] = []
    listening = socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    ended = threading.Event()

    def answer(connection: socket, pieces: list[bytes]) -> None:
        with connection:
            try:
                asked.append(connection.recv(2**16))
                for piece in pieces:
                    connection.sendall(piece)
                while pieces and not ended.is_set():
                    time.sleep(pause_s)
                    connection.sendall(pieces[-1])
            except OSError:
                return

    def serve() -> None:
        for pieces in answers:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=answer, args=(connection, pieces)))
            threads[-1].start()

    threads = [threading.Thread(target=serve)]
    threads[0].start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
    finally:
        ended.set()
        with socket() as last:
            last.connect(listening.getsockname())
        listening.close()
        for thread in threads:
            thread.join(PATIENCE_S)


def whole(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        ([HEAD, b"X-More: " + b"x" * 1000 + b"\r\n"], "is no HTTP"),
        ([HEAD, b"x" * 2**16], "is no HTTP"),
        ([b"x" * 2**16], "is no HTTP"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" * 100], "is no HTTP"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], "is no HTTP"),
        ([whole(b"x", "Transfer-Encoding: chunked")], "does not say how long"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"], "is no HTTP"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"], "how long"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n" + b"x" * 10], "how long"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], "204 No Content"),
        ([b"HTTP/1.1 299 \x1b[2J\r\n\r\n"], "status code: 299$"),
        ([b"HTTP/1.1 304 Not Modified\r\n\r\n"], "304 Not Modified"),
        ([b"HTTP/1.1 302 Found\r\n\r\n"], "302 Found"),
    ],
)
def test_what_is_no_object(pieces: list[bytes], says: str) -> None:
    with raw([pieces]) as (address, _), pytest.raises(OSError, match=says) as caught:
        client(address).get("x")
    assert isinstance(caught.value, UnusableAnswerError | StatusError)


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD + b"X: ", b"x"],
        [b"HTTP/1.1 100 Continue\r\n\r\n"],
        [b"HTTP/1.1 404 Not Found\r\nContent-Length: 100000\r\n\r\n", b"x"],
        [b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"],
        [b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n1;x=", b"x"],
    ],
)
def test_no_part_of_an_answer_may_drip(
    pieces: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_UNHURRIED_S", 0.3)
    began_s = time.monotonic()
    with (
        raw([pieces], pause_s=0.05) as (address, _),
        pytest.raises(TimeoutError, match="less than 1,024 bytes a second came"),
    ):
        client(address).get("x")
    assert time.monotonic() - began_s < PATIENCE_S / 2


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 1000],
        [b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n" * 100],
        [b"HTTP/1.1 404 Not Found\r\nContent-Length: 4000000000000\r\n\r\n", b"x" * 1000],
        [b"HTTP/1.1 404 Not Found\r\n\r\n", b"x" * 1000],
    ],
)
def test_an_error_without_end_is_an_error(pieces: list[bytes]) -> None:
    with raw([pieces]) as (address, _), pytest.raises((MissingObjectError, ConnectionError)):
        client(address).get("x")


@pytest.mark.parametrize("status", [400, 404, 500])
@pytest.mark.parametrize("size_bytes", [10**13, 2**62])
def test_no_error_ends_the_process(status: int, size_bytes: int) -> None:
    code = (
        "import sys\n"
        "from circuit_atlas.storage_schema.errors import AtlasError\n"
        "from circuit_atlas.storage_schema.opening import open_store\n"
        "try: open_store(sys.argv[1], patience_s=0)\n"
        "except AtlasError as error: print('told:', error)\n"
    )
    long = saying(("Content-Length", size_bytes), body=b"x" * 1000, status=status)
    with answering(long) as address:
        ended = subprocess.run(
            [sys.executable, "-c", code, address], capture_output=True, text=True, timeout=START_S
        )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("told:")


def test_a_connection_that_was_closed_between_two_questions_is_opened_anew() -> None:
    # Each is closed just as it is asked for the second time: the server's threads are one each.
    kept = threading.local()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.protocol_version = "HTTP/1.1"
        kept.asked = getattr(kept, "asked", 0) + 1
        if kept.asked == 2:
            request.close_connection = True
            return
        sending(BODY)(request)
        request.close_connection = False

    with answering(answer) as address:
        found = client(address)
        assert [found.get("x")[0] for _ in range(4)] == [BODY] * 4


def test_many_threads_share_connections_that_are_kept() -> None:
    ports: set[int] = set()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.protocol_version = "HTTP/1.1"
        ports.add(request.client_address[1])
        body = request.path.encode() if request.command == "GET" else b""
        sending(body, status=404 if "none" in request.path else 200)(request)
        request.close_connection = False

    with answering(answer) as address:
        found = client(address)
        with ThreadPoolExecutor(4) as threads:
            paths = [f"a/{number}" for number in range(80)]
            assert [data for data, _ in threads.map(found.get, paths)] == [
                f"/{path}".encode() for path in paths
            ]
            assert len(ports) <= 4
            # So are those of heads, and of what is missing.
            assert found.head("x").size_bytes == 0
            with pytest.raises(MissingObjectError):
                found.get("none")
            assert found.get("x")[0] == b"/x"
        assert len(ports) <= 4


def test_a_part_is_what_was_asked_for() -> None:
    def parts(said: str, body: bytes = b"world") -> str:
        answer = saying(
            ("Content-Range", said), ("Content-Length", len(body)), body=body, status=206
        )
        with answering(answer) as address:
            return client(address).get_range("x", start=6, size_bytes=5).decode()

    assert parts("bytes 6-10/11") == "world"
    assert parts("bytes 6-8/9", b"wor") == "wor"
    for said in ("bytes 5-9/11", "bytes 6-11/12", "bytes 6-10", "6-10/11", "", "bytes 6-9/11"):
        with pytest.raises(UnusableAnswerError, match="another part"):
            parts(said)
    with pytest.raises(UnusableAnswerError, match="another part"):
        parts("bytes 6-11/12", b"world!")
    with answering(sending(BODY)) as address, pytest.raises(WholeObjectsError):
        client(address).get_range("x", start=6, size_bytes=5)


def test_who_logs_in_is_told_the_server_and_nobody_else() -> None:
    asked: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.headers["Authorization"])
        sending(BODY)(request)

    def closed(request: BaseHTTPRequestHandler) -> None:
        saying(("Content-Length", 0), status=401)(request)

    login = f"Basic {base64.b64encode('me:se@€'.encode()).decode()}"
    with answering(answer) as address, answering(redirecting(f"{address}/x")) as other:
        assert client(address.replace("//", "//me:se%40%E2%82%AC@")).get("x")[0] == BODY
        assert (
            client(other.replace("//", "//me:se%40%E2%82%AC@"), other_hosts=True).get("y")[0]
            == BODY
        )
    assert asked == [login, None]
    with answering(closed) as address:
        found = client(address.replace("//", "//me:secret@"))
        assert "secret" not in repr(found)
        with pytest.raises(StatusError, match="401") as caught:
            pickle.loads(pickle.dumps(found)).get("x")
    assert "secret" not in str(caught.value)


def test_redirects_within_a_server_are_followed() -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.path == "/moved/a%20b":
            sending(BODY)(request)
        else:
            redirecting("/moved/a%20b")(request)

    with answering(answer) as address:
        assert client(address).get("a b")[0] == BODY
        assert client(address).head("a b").size_bytes == len(BODY)


def test_another_server_is_asked_where_that_is_permitted_alone() -> None:
    asked: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        sending(BODY)(request)

    with answering(answer) as other, answering(redirecting(f"{other}/secret")) as address:
        with pytest.raises(
            UnusableAnswerError, match=f"it redirects to {other}, and no other serv"
        ):
            client(address).get("x")
        assert not asked
        assert client(address, other_hosts=True).get("x")[0] == BODY


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone answers at all of 127.0.0.0/8")
@pytest.mark.parametrize("other_hosts", [True, False])
def test_no_public_server_leads_to_a_private_address(
    monkeypatch: pytest.MonkeyPatch, other_hosts: bool
) -> None:
    is_public = http_connections._is_public
    assert not any(map(is_public, ("10.0.0.1", "::1", "169.254.169.254", "::ffff:192.168.0.1")))
    assert not any(map(is_public, ("0.0.0.0", "fe80::1%eth0", "fd00::1", "100.64.0.1")))
    assert all(map(is_public, ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8")))
    names = {"public.example": ["127.0.0.2", "127.0.0.1"], "inside.example": ["127.0.0.1"]}
    monkeypatch.setattr(http_connections, "_is_public", lambda name: name == "127.0.0.2")
    asked: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        to = f"http://inside.example:{port}/a" if other_hosts else "/a"
        redirecting(to)(request)

    with answering(answer, host="0.0.0.0") as address:
        port = int(address.rpartition(":")[2])
        monkeypatch.setattr("socket.getaddrinfo", rebinding(names))
        with pytest.raises(UnusableAnswerError, match=r"at 127\.0\.0\.1, which is a private addr"):
            client(f"http://public.example:{port}", other_hosts=other_hosts).get("x")
    assert asked == ["/x"]


def rebinding(names: dict[str, list[str]]) -> Callable[..., object]:
    """A resolver of names that stand for one address after the other."""

    def resolve(host: str, port: int, *given: object) -> object:
        del given
        left = names.get(host, [host])
        address = left.pop(0) if len(left) > 1 else left[0]
        return [(AF_INET, SOCK_STREAM, 6, "", (address, port))]

    return resolve


def test_what_the_environment_names_as_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append((request.path, request.headers["Proxy-Authorization"]))
        sending(BODY)(request)

    with answering(answer) as proxy:
        monkeypatch.setenv("http_proxy", proxy.replace("//", "//me:pw@"))
        assert client("http://far.example/base").get("x")[0] == BODY
        assert asked == [("http://far.example/base/x", "Basic bWU6cHc=")]
        with answering(sending(b"near")) as address:
            assert client(address).get("x")[0] == b"near"
    with pytest.raises(ConnectionError, match=r"no answer through the proxy \(.*refused\): see"):
        client("http://far.example").get("x")
    monkeypatch.setenv("http_proxy", "socks5://me:secret@proxy")
    with pytest.raises(UnusableAnswerError, match="the proxy that the environment") as caught:
        client("http://far.example").get("x")
    assert "secret" not in str(caught.value)


def test_no_server_at_a_name() -> None:
    with pytest.raises(ConnectionError, match=r"no answer \(nobody knows its name\): see whether"):
        client("http://nowhere.invalid").get("x")
    with answering(sending(BODY)) as address:
        secure = client(address.replace("http:", "https:"))
        with pytest.raises(UnusableAnswerError, match="does not answer by https://"):
            secure.get("x")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost that is its own authority, and its key."""
    x509 = pytest.importorskip("cryptography.x509", reason="cryptography makes a certificate")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


def test_https(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = bytes(range(256)) * 2**14
    with answering(sending(body), certificate=certificate) as address:
        port = address.rpartition(":")[2]
        with pytest.raises(
            UnusableAnswerError, match=r"its certificate does not hold: self.signed"
        ):
            client(f"https://localhost:{port}").get("x")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        found = client(f"https://localhost:{port}")
        assert [found.get("x")[0] == body for _ in range(2)] == [True, True]
        with pytest.raises(UnusableAnswerError, match="its certificate does not hold: IP address"):
            client(f"https://127.0.0.1:{port}").get("x")
    with (
        answering(sending(body, cut=10), certificate=certificate) as address,
        pytest.raises(ConnectionError, match="its answer ends too early"),
    ):
        client(f"https://localhost:{address.rpartition(':')[2]}").get("x")


def test_ipv6() -> None:
    with socket(AF_INET6) as probe:
        if probe.connect_ex(("::1", 9)) == errno.EADDRNOTAVAIL:
            pytest.skip("this machine has no IPv6")
    with answering(sending(BODY), host="::1") as address:
        assert address.startswith("http://[::1]:")
        assert client(address).get("x")[0] == BODY

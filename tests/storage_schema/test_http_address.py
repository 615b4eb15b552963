"""Addresses of web servers: read, named in messages, and where they may send on to."""

from __future__ import annotations

import pytest

from circuit_atlas.storage_schema.http_address import HttpAddress, HttpProxy, shown


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://host:8000/", "http://host:8000"),
        ("HTTP://Host/a/b%20c/", "http://host/a/b%20c"),
        ("https://host:443", "https://host"),
        ("http://host:443", "http://host:443"),
        ("http://[::1]:8000/x", "http://[::1]:8000/x"),
        ("http://me:secret@host/x", "http://host/x"),
    ],
)
def test_what_is_an_address(text: str, url: str) -> None:
    address = HttpAddress.of(text)
    assert address.url == url
    assert "secret" not in repr(address)


@pytest.mark.parametrize(
    "text",
    [
        "http://",
        "http:///path",
        "http://host:port",
        "http://host:99999",
        "http://[::1",
        "http://ho st",
        "http://host\x1b[2J/",
        "ftp://host",
        "host",
        "file:///etc/passwd",
        "http://me:se@cret@ho st",
        "http://" + "a" * 3000,
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"^it (cannot be read as|names no host)"):
        HttpAddress.of(text)


def test_what_lies_below() -> None:
    address = HttpAddress.of("http://me:pass@host/base").below("layers/a b%#?/x")
    assert address.url == "http://host/base/layers/a%20b%25%23%3F/x"
    assert address.login == "me:pass"


def test_who_logs_in_is_read_and_never_shown() -> None:
    assert HttpAddress.of("http://m%40e:p%3Aw@host").login == "m@e:p:w"
    assert shown("http://me:pw@host/a@b") == "http://host/a@b"
    assert shown("http://me:p/w@ho st/") == "http://ho st/"
    assert shown("s3://bucket/x@y") == "s3://bucket/x@y"
    assert shown("folder/a@b") == "folder/a@b"


@pytest.mark.parametrize(
    ("source", "location", "same"),
    [
        ("http://host/a", "/b", True),
        ("http://host/a", "b?c=d", True),
        ("http://host/a", "http://HOST:80/b", True),
        ("http://host/a", "//host/b", True),
        ("http://host:8000/a", "http://host:8000/b", True),
        ("http://host/a", "https://host/a", True),
        ("http://host:8000/a", "https://host/a", True),
        ("http://host/a", "http://me:pw@host/a", True),
        ("http://host/a", "http://host:8000/a", False),
        ("http://host/a", "https://host:8443/a", False),
        ("https://host/a", "http://host/a", False),
        ("http://host/a", "http://www.host/a", False),
        ("http://host/a", "http://host.other/a", False),
        ("http://host/a", "http://host@other/a", False),
        ("http://host/a", "http://127.0.0.1/a", False),
    ],
)
def test_where_a_redirect_leads(source: str, location: str, same: bool) -> None:
    start = HttpAddress.of(source.replace("//", "//user:own@"))
    target = start.next(location)
    assert start.sends_on_to(target) is same
    # A server is told no login but its own.
    assert target.login == ("user:own" if same else None)


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://host/x", "http://ho st", "data:,x"]
)
def test_a_redirect_to_what_is_no_address(location: str) -> None:
    with pytest.raises(ValueError, match=r"^it "):
        HttpAddress.of("http://host/a").next(location)


def test_the_proxy_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:secret@proxy:3128")
    monkeypatch.setenv("no_proxy", "inside,.local.net")
    found = HttpAddress.of("http://host/x").proxy()
    assert found == HttpProxy("http://proxy:3128", "me:secret")
    assert "secret" not in repr(found)
    for near in (
        "localhost:8000",
        "127.0.0.1",
        "[::1]:8000",
        "a.localhost",
        "inside",
        "a.local.net",
    ):
        assert HttpAddress.of(f"http://{near}").proxy() is None, near
    monkeypatch.setenv("http_proxy", "socks5://me:secret@proxy")
    with pytest.raises(ValueError, match=r"^the proxy that the environment names for http://"):
        HttpAddress.of("http://host/x").proxy()

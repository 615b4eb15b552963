"""An `http://` or `https://` address: its parts, how messages name it, where it may send on to, and
the proxy on the way."""

from __future__ import annotations

import ipaddress
import re
from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urljoin
from urllib.request import getproxies, proxy_bypass

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+(%[a-z0-9._~-]+)?\]")
_LONGEST = 2048


@dataclass(frozen=True)
class HttpAddress:
    """Names a folder or an object at a web server.

    Attributes:
        scheme: `http` or `https`.
        host: in lower case, of IPv6 in brackets.
        port: given, or that of the scheme.
        path: percent-encoded, with a query if there is one; empty, or begins with `/`.
        login: user and password, `user:password`, percent-decoded; None where there are none. No
            message says them.
    """

    scheme: str
    host: str
    port: int
    path: str
    login: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, text: str) -> HttpAddress:
        """Read an address; ValueError where it is none, with a text that may be shown."""
        try:
            parts = parse_url(text) if len(text) <= _LONGEST else None
        except LocationParseError:
            parts = None
        if parts is None or parts.scheme not in _PORTS:
            raise ValueError("it cannot be read as http://HOST:PORT")
        host = (parts.host or "").lower()
        if not _HOST.fullmatch(host):
            raise ValueError("it names no host, as http://HOST:PORT does")
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
        path = (parts.path or "").rstrip("/") if parts.query is None else parts.request_uri
        login = None if parts.auth is None else unquote(parts.auth)
        return cls(parts.scheme, host, port, path, login)

    @property
    def origin(self) -> str:
        """Return the address of the server, as messages name it."""
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"

    @property
    def url(self) -> str:
        """Return it all, but who logs in."""
        return f"{self.origin}{self.path}"

    @property
    def is_loopback(self) -> bool:
        """Tell whether its host is by name this machine."""
        name = self.host.strip("[]")
        try:
            return ipaddress.ip_address(name.partition("%")[0]).is_loopback
        except ValueError:
            return name == "localhost" or name.endswith(".localhost")

    def below(self, path: str) -> HttpAddress:
        """Return the address of what lies below it, by a path that is not encoded."""
        joined = f"{self.path}/{quote(path)}"
        return HttpAddress(self.scheme, self.host, self.port, joined, self.login)

    def next(self, location: str) -> HttpAddress:
        """Return what a redirect from here sends on to, who logs in alone where that is the same
        host; ValueError where it is no address."""
        target = HttpAddress.of(urljoin(f"{self.url or '/'}", location))
        login = self.login if self.sends_on_to(target) else None
        return HttpAddress(target.scheme, target.host, target.port, target.path, login)

    def sends_on_to(self, target: HttpAddress) -> bool:
        """Tell whether an address is of the same server, or of the same host by `https://`."""
        upgraded = self.scheme == "http" and target.origin == f"https://{self.host}"
        return target.origin == self.origin or upgraded

    def proxy(self) -> HttpProxy | None:
        """Return the proxy that the environment names for this address, as other programs have it:
        `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`. There is none to this machine.

        ValueError where it cannot be used.
        """
        if self.is_loopback or proxy_bypass(f"{self.host.strip('[]')}:{self.port}"):
            return None
        proxies = getproxies()
        named = proxies.get(self.scheme) or proxies.get("all")
        if not named:
            return None
        try:
            address = HttpAddress.of(named if "://" in named else f"http://{named}")
        except ValueError as error:
            raise ValueError(
                f"the proxy that the environment names for {self.scheme}:// cannot be used: {error}"
            ) from None
        return HttpProxy(address.origin, address.login)


@dataclass(frozen=True)
class HttpProxy:
    """Names a proxy, and who logs in there."""

    url: str
    login: str | None = field(default=None, repr=False)


def basic(login: str) -> str:
    """Return the header that logs a `user:password` in."""
    return f"Basic {b64encode(login.encode()).decode()}"


def shown(text: str) -> str:
    """Return an address as messages name it, without who logs in; any other text as it is."""
    if not text.lower().startswith(("http://", "https://")):
        return text
    try:
        HttpAddress.of(text)
    except ValueError:
        # Whatever it is, it may have a password in it.
        return re.sub("//.*@", "//", text)
    return re.sub("//[^/?#]*@", "//", text)

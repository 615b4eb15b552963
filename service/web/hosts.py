"""Which `Host` headers are answered, so that no page of another site reads the atlas.

A page may have its own name resolve to this machine (DNS rebinding): to the browser the server is
then that page's own, and only the header tells whose name was asked for. Addresses cannot be
bound anew, names can.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

_HEADER = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+))(?::\d*)?")


@dataclass(frozen=True)
class Hosts:
    """Holds the names that a server answers to, besides `localhost` and any IP address.

    Attributes:
        names: in lower case, without port; None where any name is answered.
    """

    names: frozenset[str] | None = None

    @classmethod
    def of(cls, host: str, listening: str, *, allowed: Iterable[str]) -> Hosts:
        """Take those of a server. Where other machines hear it and no name is given it answers to
        any, as theirs for it are not known.

        Args:
            host: what it was told to listen at.
            listening: the IP address that this is.
            allowed: names besides, such as that of a proxy before it.
        """
        names = [name.lower().rstrip(".") for name in allowed]
        if not names and not ipaddress.ip_address(listening.partition("%")[0]).is_loopback:
            return cls()
        return cls(frozenset((host.lower(), *names)))

    def answers(self, header: str) -> bool:
        """Tell whether a request with this header is answered.

        >>> [Hosts(frozenset()).answers(text) for text in ("[::1]:8000", "LOCALHOST", "a.example")]
        [True, True, False]
        """
        if self.names is None:
            return True
        written = _HEADER.fullmatch(header)
        if written is None:
            return False
        name = (written[1] or written[2]).lower().rstrip(".")
        if name == "localhost" or name in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

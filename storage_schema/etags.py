"""Whether an object came whole, by the tag that its store has for it.

A body that is shorter than the connection promised is an error of the client's. One that was cut
before the promise was made, by a proxy or by the server itself, looks whole. S3 and most of its kin
tag what was put in one piece with its MD5, so what does not fit is asked for again.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter

_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
# The same bytes so often are the object's: the tag is none, as under a key of the user's.
_TIMES = 3


class Etags:
    """Holds bodies against the tags of one store, as long as these are MD5s of them."""

    def __init__(self) -> None:
        self._are_md5 = True
        self._came: Counter[tuple[str, str]] = Counter()

    def fits(self, path: str, etag: str | None, data: bytes) -> bool:
        """Tell whether a body may be the whole object, as far as its tag says."""
        match = _MD5.fullmatch(etag or "") if self._are_md5 else None
        if match is None:
            return True
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if md5 == match[1]:
            return True
        self._came[path, md5] += 1
        if self._came[path, md5] < _TIMES:
            return False
        self._are_md5 = False
        return True

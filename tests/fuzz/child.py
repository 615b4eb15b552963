"""`python -m tests.fuzz.child KIND FOLDER`: runs the cases that standard input names."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.fuzz.kinds import most_bytes, prepare_of
from tests.fuzz.watch import serve

if __name__ == "__main__":
    kind, folder = sys.argv[1:]
    made_in = Path(tempfile.mkdtemp(dir=folder))
    serve(prepare_of(kind), made_in, most_bytes=most_bytes(kind))

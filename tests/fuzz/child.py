"""`python -m tests.fuzz.child KIND FOLDER`: runs the cases that standard input names."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.fuzz.kinds import prepare_of
from tests.fuzz.watch import serve

if __name__ == "__main__":
    kind, folder = sys.argv[1:]
    serve(prepare_of(kind), Path(tempfile.mkdtemp(dir=folder)))

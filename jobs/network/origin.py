"""Where in the model's source a traced operation stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in ')
_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent)


def source_line(node: Any) -> str:
    """Gives the innermost line of the model's own source that computes a traced node, as
    `networks.py:12`; "" where torch kept none."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    own = [(file, line) for file, line in frames if not file.startswith((_TORCH, _HERE))]
    if not own:
        return ""
    file, line = own[-1]
    return f"{file}:{line}"

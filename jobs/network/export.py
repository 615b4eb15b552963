"""From a model's code to torch's exported program, whatever that code and torch print meanwhile."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator

import torch
from torch import nn
from torch.export import ExportedProgram

from circuit_atlas.jobs.network.returned import Returned, ReturningModules
from circuit_atlas.storage_schema.errors import ModelError


def trace(
    model: nn.Module, image_shape: tuple[int, ...]
) -> tuple[ExportedProgram, tuple[Returned, ...]]:
    """Traces `model`, in eval mode, for batches of any size of images of `image_shape`.

    The program is that of `ReturningModules`; what each of its results is comes with it.
    What the model prints goes to stderr. Raises ModelError, in one line, where it cannot be traced;
    what it and torch said is then a note of the error.
    """
    first = next(model.parameters(), torch.zeros(()))
    example = torch.zeros((2, *image_shape), dtype=first.dtype, device=first.device)
    told = io.StringIO()
    runs: list[tuple[Returned, ...]] = []
    try:
        with torch.no_grad(), warnings.catch_warnings(), _captured(told):
            # A module may keep a result aside, as an attribute: that is no weight.
            warnings.filterwarnings("ignore", message="The tensor attributes? ")
            program = torch.export.export(
                ReturningModules(model, runs.append),
                (example,),
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                strict=False,
            ).run_decompositions({})
    except (Exception, SystemExit) as error:  # the forward pass is the user's code
        # torch's hint, to have it log more, is of no use where its loggers are silent.
        reason = str(error).partition("For more information")[0].strip().splitlines()
        refusal = ModelError(
            f"the model cannot be traced for images of {image_shape}: "
            f"{reason[0].strip() if reason else type(error).__name__}; "
            "torch.export must accept it with a batch of any size"
        )
        refusal.add_note(told.getvalue())
        raise refusal from error
    sys.stderr.write(told.getvalue())
    return program, runs[-1]


@contextlib.contextmanager
def _captured(told: io.StringIO) -> Iterator[None]:
    """Collects what is printed: where torch gives up, it prints whole graphs. Its loggers hold on
    to the real stderr, so they are silent meanwhile."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            yield
    finally:
        logging.disable(before)

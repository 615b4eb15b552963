"""From a model's code to torch's exported program, whatever that code and torch print meanwhile."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import operator
import pickle
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Tracer

from circuit_atlas.jobs.network.entrance import count_calls, entrance
from circuit_atlas.jobs.network.refusal import refusal
from circuit_atlas.jobs.network.returned import Returned, ReturningModules, Run
from circuit_atlas.storage_schema.errors import ModelError

# Held while torch exports: what it sets meanwhile, and what is replaced below, is the process's.
EXPORTING = threading.RLock()


@dataclass(frozen=True)
class Trace:
    """A traced network, or the part of it that can be traced.

    Attributes:
        program: that of `ReturningModules`.
        returned: what each of the program's results is.
        root: path of the module that gets the images; "" for the network itself.
        refusal: why the network is not traced wholly; None where it is.
        unsure: paths of modules that may be called again behind what is traced.
    """

    program: ExportedProgram
    returned: tuple[Returned, ...]
    root: str = ""
    refusal: ModelError | None = None
    unsure: frozenset[str] = frozenset()

    def to_bytes(self) -> bytes | None:
        """Writes the trace down, without the network's weights, for other processes of the same
        build; None where torch cannot write such a program, so that they have to trace anew."""
        light = copy.copy(self.program)
        light._state_dict = {name: _empty(each) for name, each in self.program.state_dict.items()}
        written = io.BytesIO()
        try:
            with EXPORTING, warnings.catch_warnings(), _captured(io.StringIO()):
                warnings.simplefilter("ignore")
                torch.export.save(light, written)
            rest = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
            return pickle.dumps((written.getvalue(), rest))
        except Exception:  # operations of the user's may have arguments that nothing else knows
            return None

    @classmethod
    def of_bytes(cls, written: bytes) -> Trace:
        """Reads what `to_bytes` wrote, which is to be trusted: it may run code."""
        program, rest = pickle.loads(written)
        with EXPORTING, warnings.catch_warnings(), _captured(io.StringIO()):
            warnings.simplefilter("ignore")
            loaded = torch.export.load(io.BytesIO(program))
        # Of what an operation gives, torch reads back also what nothing takes.
        for node in list(loaded.graph.nodes):
            if node.target is operator.getitem and not node.users:
                loaded.graph.erase_node(node)
        return cls(loaded, **rest)


def trace(model: nn.Module, image_shape: tuple[int, ...]) -> Trace:
    """Traces `model`, in eval mode, for batches of any size of images of `image_shape`.

    Where its code cannot be followed to the end, it is traced as far as that goes. Where it doesn't
    take a batch of images, it is traced from the module within that does. Autocast is off, since
    networks are computed in float32. What the model prints goes to stderr. Raises ModelError, in
    one line, where nothing can be traced; what model and torch said is then a note of the error.
    """
    like = next(model.parameters(), torch.zeros(()))
    images = torch.rand((2, *image_shape), generator=torch.Generator().manual_seed(0)).to(like)
    with EXPORTING:
        try:
            return _traced(model, images)
        except ModelError as error:
            with _captured(io.StringIO()):
                root = entrance(model, images)
            if root is None:
                raise
            try:
                part = _traced(model, images, root=root)
            except ModelError:
                raise error from error.__cause__
            return replace(part, root=root, refusal=error)


def _empty(tensor: Tensor) -> Tensor:
    """A tensor of the same kind without values."""
    nothing = tensor.detach().new_empty(0)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(nothing, requires_grad=False)
    return nothing


def _traced(model: nn.Module, images: Tensor, *, root: str = "") -> Trace:
    told = io.StringIO()
    runs: list[Run] = []
    try:
        with (
            torch.no_grad(),
            warnings.catch_warnings(),
            _captured(told),
            without_autocast(),
            _unwinding(),
        ):
            # A module may keep a result aside, as an attribute: that is no weight.
            warnings.filterwarnings("ignore", message="The tensor attributes? ")
            # Some versions of torch copy what they themselves call deprecated.
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            program = torch.export.export(
                ReturningModules(model, runs.append, root=root),
                (images,),
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                strict=False,
            ).run_decompositions({})
    except (Exception, SystemExit) as error:  # the forward pass is the user's code
        first = next((run.error for run in runs if run.error is not None), error)
        with _captured(told):
            refused = refusal(first, model, images)
        refused.add_note(told.getvalue())
        raise refused from error
    run = runs[-1]
    if run.error is None:
        sys.stderr.write(told.getvalue())
        return Trace(program, run.returned, root)
    with _captured(told):
        calls = count_calls(model, images)
        refused = refusal(run.error, model, images)
    unsure = frozenset(path for path, count in calls.items() if count != run.calls.get(path, 0))
    return Trace(program, run.returned, root, refused, unsure)


@contextlib.contextmanager
def without_autocast() -> Iterator[None]:
    """Lets what runs within ignore `torch.autocast`."""
    names = ("__enter__", "__exit__")
    with EXPORTING:
        kept = {name: getattr(torch.autocast, name) for name in names}
        for name in names:
            setattr(torch.autocast, name, lambda *_: None)
        try:
            yield
        finally:
            for name, method in kept.items():
                setattr(torch.autocast, name, method)


@contextlib.contextmanager
def _unwinding() -> Iterator[None]:
    """Lets torch's tracer leave a module that raises: it forgets to, and then takes what follows to
    be inside."""
    call_module = Tracer.call_module

    def left(self: Tracer, *args: Any, **kwargs: Any) -> Any:
        around = set(self.module_stack)
        try:
            return call_module(self, *args, **kwargs)
        except BaseException:
            for path in self.module_stack.keys() - around:
                del self.module_stack[path]
            raise

    Tracer.call_module = left  # type: ignore[method-assign]
    try:
        yield
    finally:
        Tracer.call_module = call_module  # type: ignore[method-assign]


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

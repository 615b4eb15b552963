"""`package.module:function` -> what the user's function returns."""

from __future__ import annotations

import copy
import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn
from torchvision.models import list_models

from circuit_atlas.jobs.spec.model import COLLECTIONS
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.wording import listed, nearest, one_line

_FORMS = "write torchvision:NAME, timm:NAME, demo:squeezenet1_1 or package.module:function"
_WHERE = "install it, or set PYTHONPATH, or code under [model], to the folder that holds it"


def model_of_function(
    package: str, name: str, arguments: Mapping[str, Any], *, code: str | None = None
) -> nn.Module:
    """Imports the user's function and calls it; ModelError, in one line, where that fails.

    Args:
        package: the module of the function.
        name: its name there.
        arguments: keyword arguments.
        code: the folder that the module lies in. It stays on the path of this process, for what
            the model imports later. Default: the module is importable.
    """
    if code is not None:
        _put_on_path(code)
    function = _import(package, name, code)
    _check(function, f"{package}:{name}", arguments)
    return call(function, f"{package}:{name}", arguments)


def call(
    function: Callable[..., object], reference: str, arguments: Mapping[str, Any]
) -> nn.Module:
    """Calls what makes a model; ModelError where it fails or returns something else.

    Args:
        function: any code.
        reference: what to call it in messages.
        arguments: keyword arguments; the function gets copies.
    """
    given = "without arguments"
    if arguments:
        given = f"with {listed(list(arguments))} of [model.arguments]"
    try:
        module = function(**copy.deepcopy(dict(arguments)))
    except (Exception, SystemExit) as error:  # the user's code: anything may come out of it
        raise ModelError(
            f"{reference!r} failed with {type(error).__name__}: {one_line(error)}; "
            f"it is called {given} and must return a torch.nn.Module"
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"{reference!r} returned {type(module).__name__!r}: it must return a torch.nn.Module"
        )
    return module


def _check(function: Callable[..., object], reference: str, arguments: Mapping[str, Any]) -> None:
    """Raises ModelError naming the argument that a function does not take, or lacks."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # compiled code may have none
        return
    kinds = inspect.Parameter
    named = [
        name
        for name, parameter in parameters.items()
        if parameter.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    ]
    unknown = [name for name in arguments if name not in named]
    if unknown and not any(p.kind == kinds.VAR_KEYWORD for p in parameters.values()):
        raise ModelError(
            f"{reference!r} takes no argument {unknown[0]!r} of [model.arguments]: "
            f"{nearest(unknown[0], named, what='arguments')}"
        )
    for name in named:
        if name not in arguments and parameters[name].default is kinds.empty:
            raise ModelError(
                f"{reference!r} needs the argument {name!r}: give it in [model.arguments]"
            )


def _put_on_path(code: str) -> None:
    if not Path(code).is_dir():
        raise ModelError(
            f"model.code: there is no folder {code!r}; every machine of a cluster needs it there, "
            "unless the build is handed over by `circuit-atlas submit`, which sends it along"
        )
    if code not in sys.path:
        sys.path.insert(0, code)
        importlib.invalidate_caches()


def _require_from(code: str, module: ModuleType) -> None:
    """ModelError where a module of that name came from elsewhere, perhaps before this spec."""
    folder = Path(code).resolve()
    file = getattr(module, "__file__", None)
    files = [file] if file else list(getattr(module, "__path__", ()))
    if not any(Path(each).resolve().is_relative_to(folder) for each in files):
        raise ModelError(
            f"the module {module.__name__!r} is that of {''.join(files[:1]) or 'Python'!r}, not of "
            f"the folder {code!r} under model.code: give it a name that no other module has"
        )


def _import(package: str, name: str, code: str | None) -> Callable[..., object]:
    reference = f"{package}:{name}"
    for what, absent in (("module", package.split(".")[0] == ""), ("function", not name)):
        if absent:
            raise ModelError(f"model reference {reference!r} names no {what}: {_FORMS}")
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if f"{package}.".startswith(f"{error.name}."):
            raise ModelError(
                f"model reference {reference!r}: {reference_remedy(package)}"
            ) from error
        raise ModelError(f"importing {package!r} failed: {one_line(error)}; {_WHERE}") from error
    except (Exception, SystemExit) as error:  # importing runs the user's code
        raise ModelError(
            f"importing {package!r} failed with {type(error).__name__}: {one_line(error)}"
        ) from error
    if code is not None:
        _require_from(code, module)
    function = getattr(module, name, None)
    if function is None:
        offered = [other for other, value in vars(module).items() if callable(value)]
        known = nearest(name, offered, what=f"functions of {package}")
        raise ModelError(f"module {package!r} has no {name!r}: {known}")
    if not callable(function):
        raise ModelError(
            f"{reference!r} is of type {type(function).__name__!r}: "
            "name a function that returns the model"
        )
    checked: Callable[..., object] = function
    return checked


def code_of(reference: str) -> str | None:
    """Gives the file of the function that a reference names, once it was imported; None where it
    names a model of a collection."""
    package = reference.partition(":")[0]
    if package in COLLECTIONS:
        return None
    return getattr(sys.modules.get(package), "__file__", None) or package


def reference_remedy(kind: str) -> str:
    """Says what a reference may look like, guessed from what stands before its colon, or all."""
    if kind in list_models():
        return f'write "torchvision:{kind}"'
    if close := difflib.get_close_matches(kind, COLLECTIONS):
        return f"did you mean {close[0]}:NAME?"
    if _importable(kind):
        return f"name a function of it: '{kind}:FUNCTION'"
    return f"no module {kind!r} can be imported: {_WHERE}; or {_FORMS}"


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (Exception, SystemExit):  # looking into a package runs it
        return False

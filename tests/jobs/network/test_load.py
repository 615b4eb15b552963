"""References, weights files and fingerprints, and what each mistake is answered with."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.ao.nn import quantized
from torch.optim.swa_utils import AveragedModel
from torchvision.models import get_model, get_model_weights

from circuit_atlas.jobs.network.load import LoadedModel, load_model
from circuit_atlas.jobs.network.torchvision_model import _published_preprocessing
from circuit_atlas.jobs.network.weights import fingerprint
from circuit_atlas.jobs.spec.model import ModelSpec
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.storage_schema.errors import ModelError

NETWORKS = """
import torch
from torch import nn

def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))

def double():
    return small().double().train()

def poisoned():
    network = small()
    with torch.no_grad():
        network[1].running_var[2] = float("nan")
    return network

def lazy():
    return nn.Sequential(nn.LazyConv2d(4, 3))

def sized(width, *, depth=1, kernels=(3,), **others):
    kernels.append(1)
    assert not others, others
    return nn.Sequential(*(nn.Conv2d(3, width, 3) for _ in range(depth)))

def exact(width):
    return sized(width, kernels=[])

def number():
    return 3

def failing():
    raise RuntimeError("no\\nluck")

def leaving():
    raise SystemExit("bye")

size = 3
"""


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of this test's own that can be imported."""
    name = f"networks_{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}"
    (tmp_path / f"{name}.py").write_text(NETWORKS)
    (tmp_path / f"{name}_broken.py").write_text("import not_a_module_of_anyone\n")
    (tmp_path / f"{name}_raising.py").write_text("1 / 0\n")
    (tmp_path / f"{name}_leaving.py").write_text("raise SystemExit(0)\n")
    loud = "from torch import nn\nprint('imported')\n"
    loud += "def small():\n    print('called')\n    return nn.Conv2d(3, 2, 1)\n"
    (tmp_path / f"{name}_loud.py").write_text(loud)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def load(
    reference: str, weights: Path | None = None, *, pretrained: bool = False, **arguments: Any
) -> LoadedModel:
    path = None if weights is None else str(weights)
    return load_model(
        ModelSpec(reference=reference, weights=path, pretrained=pretrained, arguments=arguments)
    )


def refusal(reference: str, weights: Path | None = None, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load(reference, weights, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_function_of_the_users(networks: str) -> None:
    model = load(f"{networks}:double")
    assert not model.module.training
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert model.preprocessing is None
    assert isinstance(model.module[3], nn.Conv2d)


def test_a_function_in_a_folder_of_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "coded_parts.py").write_text(NETWORKS)
    (tmp_path / "here" / "coded.py").write_text("from coded_parts import small")
    code = str(tmp_path / "here")
    spec = ModelSpec(reference="coded:small", code=code)
    assert isinstance(load_model(spec).module[3], nn.Conv2d)
    assert load_model(spec).sha256 == load("coded:small").sha256, "it stays on the path"

    def refused(reference: str, code: Path) -> str:
        with pytest.raises(ModelError) as caught:
            load_model(ModelSpec(reference=reference, code=str(code)))
        return str(caught.value)

    told = refused("coded:small", tmp_path / "gone")
    assert told.startswith(f"model.code: there is no folder '{tmp_path / 'gone'}'; every machine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "coded.py").write_text(NETWORKS)
    assert refused("sys:exit", tmp_path / "other").startswith(
        "the module 'sys' is that of 'Python'"
    )
    told = refused("coded:small", tmp_path / "other")
    assert told.startswith(f"the module 'coded' is that of '{tmp_path / 'here' / 'coded.py'}', not")


def test_weights_nobody_gave_are_the_same_each_time_and_leave_the_generator(networks: str) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one = load(f"{networks}:small")
    assert torch.equal(torch.rand(1), expected)
    assert load(f"{networks}:small").sha256 == one.sha256


def test_fingerprint_sees_values_names_shapes_and_dtypes() -> None:
    base = nn.Conv2d(2, 3, 1, bias=False)
    same, flat = nn.Conv2d(2, 3, 1, bias=False), nn.Conv2d(3, 2, 1, bias=False)
    same.load_state_dict(base.state_dict())
    flat.load_state_dict({"weight": base.weight.reshape(2, 3, 1, 1)})
    assert fingerprint(base) == fingerprint(same)
    seen = {fingerprint(base), fingerprint(nn.Sequential(base)), fingerprint(flat)}
    with torch.no_grad():
        same.weight.view(-1)[5] = torch.nextafter(base.weight.view(-1)[5], torch.tensor(9.0))
    seen |= {fingerprint(same), fingerprint(same.double())}
    assert len(seen) == 5


def test_fingerprint_is_the_documented_one() -> None:
    norm = nn.BatchNorm2d(1, affine=False)
    expected = hashlib.sha256()
    for name, shape, tensor in (
        ("num_batches_tracked|torch.int64", "[]", norm.num_batches_tracked),
        ("running_mean|torch.float32", "[1]", norm.running_mean),
        ("running_var|torch.float32", "[1]", norm.running_var),
    ):
        assert tensor is not None
        expected.update(f"{name}|{shape}|".encode() + tensor.numpy().tobytes())
    assert fingerprint(norm) == expected.hexdigest()


def test_weights_that_cannot_be_read(networks: str, tmp_path: Path) -> None:
    reference, files = f"{networks}:small", "give a .safetensors file, or what torch.save("

    def refused(name: str, message: str) -> None:
        line = refusal(reference, tmp_path / name)
        assert f"the weights '{tmp_path / name}' are {message}" in line
        assert line.endswith("torch.save(model.state_dict(), path) wrote")

    assert "no weights at" in refusal(reference, tmp_path / "gone.pt")
    for suffix in ("pt", "safetensors"):
        (tmp_path / f"empty.{suffix}").touch()
        refused(f"empty.{suffix}", f"an empty file: {files}")
        (tmp_path / f"torn.{suffix}").write_bytes(b"PK\x03\x04 torn")
        refused(f"torn.{suffix}", "cut or altered, or of another kind of file (")
    (tmp_path / "text.pt").write_text("hello world")
    refused("text.pt", f"no file that torch.save wrote: {files}")
    for data in (b"\x80\x02M", b"\x80\x02)\x81."):
        (tmp_path / "cut.pt").write_bytes(data)
        refused("cut.pt", "cut or altered, or of another kind of file (")
    (tmp_path / "call.pt").write_bytes(pickle.dumps(os.getcwd))
    refused("call.pt", "not plain tensors, and nothing else is read from a pickle")
    for name, content in (("list.pt", [1, 2]), ("keys.pt", {3: torch.ones(1)}), ("code.pt", Path)):
        torch.save(content, tmp_path / name)
        refused(name, "not a state dict (name -> tensor)")


def test_nan_in_weights_names_the_tensor(networks: str) -> None:
    line = refusal(f"{networks}:poisoned")
    assert "'1.running_var' holds NaN (1 of 4 values)" in line


def test_torchvision_with_a_file_and_without_weights(tmp_path: Path) -> None:
    empty = load("torchvision:squeezenet1_1")
    assert empty.preprocessing is None
    torch.save(empty.module.state_dict(), tmp_path / "w.pt")
    again = load("torchvision:squeezenet1_1", tmp_path / "w.pt", pretrained=True)
    assert again.sha256 == empty.sha256
    assert again.preprocessing is None


def test_torchvisions_own_transforms_become_a_spec() -> None:
    published = get_model_weights("squeezenet1_1")["DEFAULT"]
    found = _published_preprocessing(published.transforms())
    assert found == PreprocessingSpec(resize=256, crop=224)
    bicubic = _published_preprocessing(get_model_weights("efficientnet_b0")["DEFAULT"].transforms())
    assert bicubic is not None
    assert bicubic.interpolation == "bicubic"
    segmentation = get_model_weights("fcn_resnet50")["DEFAULT"].transforms()
    assert _published_preprocessing(segmentation) is None


def test_a_published_file_is_known_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(get_model("squeezenet1_1", weights=None).state_dict(), tmp_path / "w.pth")
    begin = hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()[:8]
    enum = get_model_weights("squeezenet1_1")
    renamed = enum["DEFAULT"].value
    monkeypatch.setattr(renamed, "url", f"https://host/squeezenet1_1-{begin}.pth")
    model = load("torchvision:squeezenet1_1", tmp_path / "w.pth", pretrained=True)
    assert model.preprocessing == PreprocessingSpec(resize=256, crop=224)


def test_pretrained_weights_that_cannot_be_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # the discard port: nobody answers
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    # urllib keeps the proxies of its first call, for every later test too.
    monkeypatch.setattr(urllib.request, "_opener", None)
    line = refusal("torchvision:squeezenet1_1", pretrained=True)
    assert "could not be fetched from https://" in line
    assert "set model.weights to a file" in line


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("torchvision:squeezenet1.1", "no model 'squeezenet1.1': did you mean 'squeezenet1_1'"),
        ("squeezenet1_1", 'has no colon: write "torchvision:squeezenet1_1"'),
        ("torchvison:alexnet", "did you mean torchvision:NAME?"),
        ("demo:alexnet", "the demo has no model 'alexnet': there is only 'squeezenet1_1'"),
        (
            "no_such.module:f",
            "no module 'no_such.module' can be imported: install it, or set PYTHONPATH, or code "
            "under [model], to the folder that holds it; or write torchvision:NAME, timm:NAME, ",
        ),
        ("no_such", "has no colon: no module 'no_such' can be imported: install it, or set PYTH"),
        ("MINE", "has no colon: name a function of it: 'MINE:FUNCTION'"),
        ("MINE_leaving.part", "has no colon: no module 'MINE_leaving.part' can be imported"),
        (":small", "reference ':small' names no module: write torchvision:NAME, timm:"),
        (".MINE:small", "names no module: write"),
        ("MINE:", "names no function: write torchvision:NAME, timm:NAME, demo:"),
        ("MINE:smal", "has no 'smal': did you mean 'small'?"),
        ("MINE:size", "is of type 'int': name a function that returns the model"),
        ("MINE:number", "returned 'int': it must return a torch.nn.Module"),
        ("MINE:failing", "failed with RuntimeError: no luck; it is called without arguments"),
        ("MINE:lazy", "'0.weight' of "),
        ("MINE:leaving", "failed with SystemExit: bye; it is called without arguments"),
        ("MINE_broken:f", "failed: No module named 'not_a_module_of_anyone'; install it, or set"),
        ("MINE_leaving:f", "failed with SystemExit: 0"),
        ("MINE_raising:f", "failed with ZeroDivisionError: division by zero"),
    ],
)
def test_references_that_mean_nothing(networks: str, reference: str, message: str) -> None:
    assert message.replace("MINE", networks) in refusal(reference.replace("MINE", networks))


def test_arguments_of_the_function(networks: str) -> None:
    kernels = [5]
    model = load(f"{networks}:sized", width=6, depth=2, kernels=kernels)
    assert [tuple(p.shape) for p in model.module.parameters()][::2] == [(6, 3, 3, 3)] * 2
    assert kernels == [5]


@pytest.mark.parametrize(
    ("reference", "arguments", "message"),
    [
        (
            "MINE:exact",
            {"widht": 3},
            "takes no argument 'widht' of [model.arguments]: did you mean 'width'?",
        ),
        ("MINE:sized", {"depth": 3}, "needs the argument 'width': give it in [model.arguments]"),
        (
            "MINE:small",
            {"width": 3},
            "takes no argument 'width' of [model.arguments]: there",
        ),
        (
            "MINE:sized",
            {"width": 3, "kernels": [], "x": 1},
            "failed with AssertionError: {'x': 1};",
        ),
        (
            "MINE:exact",
            {"width": "3"},
            "it is called with 'width' of [model.arguments] and must return a torch.nn.Module",
        ),
        ("torchvision:resnet18", {"num_clases": 3}, "unexpected keyword argument 'num_clases'"),
        ("torchvision:resnet18", {"progress": True}, "model.arguments has 'progress': weights"),
        ("demo:squeezenet1_1", {"num_classes": 3}, "takes no [model.arguments]: leave them out"),
    ],
)
def test_arguments_that_cannot_be_used(
    networks: str, reference: str, arguments: dict[str, Any], message: str
) -> None:
    assert message in refusal(reference.replace("MINE", networks), **arguments)


def test_a_network_that_may_be_quantised_later() -> None:
    assert load("torchvision:quantized_resnet18").module(torch.zeros(1, 3, 32, 32)).shape[1] == 1000


def test_arguments_of_torchvisions_builders() -> None:
    model = load("torchvision:resnet18", num_classes=7)
    assert model.module.fc.out_features == 7


def test_weights_without_the_arguments_classes(tmp_path: Path) -> None:
    torch.save(get_model("squeezenet1_1", weights=None).state_dict(), tmp_path / "w.pt")
    model = load("torchvision:squeezenet1_1", tmp_path / "w.pt", num_classes=7)
    assert model.weights is not None
    assert "'classifier.1.weight' is [1000, 512, 1, 1] and" in model.weights.remarks[0]


def wrapped(kind: str) -> nn.Module:
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    match kind:
        case "DataParallel":
            return nn.DataParallel(inner)
        case "compiled":
            return torch.compile(inner)
        case "both":
            return torch.compile(nn.DataParallel(inner))
        case "average":
            return AveragedModel(inner)
        case "inside":
            inner[0] = nn.DataParallel(inner[0])
            inner[2] = torch.compile(inner[2])
            return inner
    inner.compile()
    return inner


@pytest.mark.parametrize(
    "kind", ["DataParallel", "compiled", "both", "average", "inside", "compiled in place"]
)
def test_wrappers_are_taken_off(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wrapping", SimpleNamespace(make=lambda: wrapped(kind)))
    module = load("wrapping:make").module
    assert isinstance(module, nn.Sequential)
    assert list(module.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    with torch.no_grad():
        assert module(torch.zeros(1, 3, 8, 8)).shape == (1, 2, 6, 6)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.jit.script(nn.Conv2d(3, 2, 1)), "the network of 'odd:make' is scripted"),
        (
            lambda: torch.jit.trace(nn.Conv2d(3, 2, 1), torch.zeros(1, 3, 4, 4)),
            "return the module that it was made from",
        ),
        (
            lambda: nn.Sequential(nn.ReLU(), torch.jit.script(nn.Conv2d(3, 2, 1))),
            "'1' of 'odd:make' is scripted (torch.jit)",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 2, 1), quantized.Conv2d(2, 2, 1)),
            "'1' of 'odd:make' is quantised (Conv2d), and circuits are computed in float32: return",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 2, 1), quantized.dynamic.Linear(2, 2)),
            "'1' of 'odd:make' is quantised (Linear)",
        ),
    ],
)
def test_modules_that_no_longer_say_what_they_compute(
    make: Callable[[], nn.Module], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "odd", SimpleNamespace(make=make))
    assert message in refusal("odd:make")


def test_what_a_users_code_prints_goes_to_stderr(networks: str, capsys) -> None:
    load(f"{networks}_loud:small")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "imported\ncalled\n")


def test_batch_norm_runs_in_evaluation_mode(networks: str) -> None:
    module = load(f"{networks}:small").module
    pictures = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.allclose(module(pictures)[:1], module(pictures[:1]), atol=1e-6)

"""The model that an atlas names is loaded, and no code that an atlas names is run unasked."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from circuit_atlas.service.compute.atlas_model import load_atlas_model
from circuit_atlas.storage_schema.documents import canonical, sha256
from circuit_atlas.storage_schema.errors import CorruptError, ModelError
from circuit_atlas.storage_schema.reader import Reader
from tests.service.conftest import make_header, write_atlas

FUNCTION = {"reference": "hostile_models:make", "arguments": {"command": "anything"}}
CODE = """
from pathlib import Path
Path({file!r}).write_text("imported")

def make(command):
    from torch import nn
    Path({file!r}).write_text(command)
    return nn.Conv2d(1, 1, 1)
"""


def reader(folder: Path, model: Any) -> Reader:
    """An atlas whose header names a model."""
    spec = canonical({"model": model})
    changed = {"spec": spec, "spec_sha256": sha256(spec.encode())}
    write_atlas(folder / "atlas", replace(make_header(), **changed))
    return Reader(folder / "atlas")


def test_code_is_run_when_it_is_trusted_and_not_before(tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    (tmp_path / "hostile_models.py").write_text(CODE.format(file=str(ran)))
    monkeypatch.syspath_prepend(tmp_path)
    atlas = reader(tmp_path, FUNCTION)
    with pytest.raises(ModelError, match=r"'hostile_models:make': a function .* --trust-code"):
        load_atlas_model(atlas)
    assert not ran.exists()
    assert "hostile_models" not in sys.modules
    with pytest.raises(ModelError, match="has weights"):  # its own, and the header invented ones
        load_atlas_model(atlas, trust_code=True)
    assert ran.read_text() == "anything"
    monkeypatch.delitem(sys.modules, "hostile_models")


@pytest.mark.parametrize(
    "model",
    [
        {"reference": "os:system", "arguments": {"command": "echo"}},
        {"reference": "os.path"},
        {"reference": "torchvision.models:resnet18"},
        {"reference": "timm:resnet18", "arguments": {"pretrained_cfg_overlay": {"file": "x"}}},
        {"reference": "timm:resnet18", "arguments": {"cache_dir": "/"}},
        {"reference": "torchvision:resnet18", "arguments": {"norm_layer": "x"}},
    ],
)
def test_what_may_run_or_load_other_things_is_refused(tmp_path, model):
    with pytest.raises(ModelError, match="an atlas may come from anyone; look at that first, and "):
        load_atlas_model(reader(tmp_path, model))


@pytest.mark.parametrize(
    "model", [None, [], {}, {"reference": 3}, {"reference": ""}, {"arguments": []}]
)
def test_a_header_that_names_no_model_is_altered(tmp_path, model):
    with pytest.raises(CorruptError, match=r"atlas\.json|names no model"):
        load_atlas_model(reader(tmp_path, model))


def test_where_code_and_weights_lie_is_not_for_an_atlas_to_say(tmp_path):
    file = {"weights": "/etc/passwd", "code": "/"}
    model = {"reference": "torchvision:squeezenet1_1", "arguments": {"num_classes": 3}, **file}
    with pytest.raises(ModelError, match=r"w\.pt"):
        load_atlas_model(reader(tmp_path, model), weights=tmp_path / "w.pt")

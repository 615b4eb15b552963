"""Units whose pictures go wrong, or take more than one try."""

from __future__ import annotations

import pytest

from circuit_atlas.jobs.spec.layers import LayerSpec
from circuit_atlas.service import Atlas
from circuit_atlas.storage_schema.errors import SpecError
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.visualizations import FeatureRecord
from tests.jobs.visualization.runs import built, made


def test_a_grey_picture_is_an_error_of_its_unit_alone(odd):
    spec = odd(fractions=[], steps=40, node_steps=40)
    reader = built(spec, "last", (0,))
    # Channel 2 of `first` has weights of zero: nothing can be climbed.
    edge, dead = made(spec, "first", 0, 2)
    assert edge.state == "done"
    assert dead.state == "failed"
    assert dead.kind == "unit"
    assert (
        "visualization 'positive' of channel 2 of 'first', the best of 2 tries, is all but grey"
        in (dead.message)
    )
    assert dead.message.endswith("raise features.node_steps")
    assert reader.feature_visualizations("first", 2) == ()
    assert len(reader.feature_visualizations("first", 0)) == 1
    assert verify(reader.objects) == ()


def test_a_picture_that_does_not_beat_every_photo_is_told(odd):
    """Nothing is brighter than white: two tries, the second with twice the steps."""
    spec = odd(fractions=[], steps=16)
    reader = built(spec, "last", (2,))
    (receipt,) = made(spec, "last", 2)
    assert receipt.state == "done"
    record = reader.feature_visualization("last", 2, "positive")
    assert isinstance(record, FeatureRecord)
    assert not record.beats_images
    assert record.response <= record.best_image_response
    assert record.best_image == 3
    assert (record.tries, record.steps, record.seed) == (2, 32, 1)
    negative = reader.feature_visualization("last", 2, "negative")
    assert negative is not None
    assert "not beyond every image" in repr(
        Atlas(reader).layer("last").unit(2).feature_visualizations()[0]
    )


ROOT = '''
import torch
from torch import nn

class Net(nn.Module):
    """Unit 0 is the square root of how red its surroundings are, above a red that no picture of
    noise goes below: a darker one gives NaN. Unit 1 is an edge."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 2, 15, padding=7)
        self.last = nn.Conv2d(2, 2, 1, groups=2)
        with torch.no_grad():
            self.first.weight.zero_(); self.last.weight.fill_(1.0); self.last.bias.zero_()
            self.first.weight[0, 0] = 1 / 225
            self.first.weight[1, 0, 6:9, 6:9] = torch.tensor([[-1., 0, 1]] * 3)
            self.first.bias.copy_(torch.tensor([0.6, 0.0]))

    def forward(self, x):
        around, edge = self.first(x).split(1, 1)
        return self.last(torch.cat([around ** 0.5, edge], 1))

def network():
    return Net()
'''


def test_a_picture_that_leads_to_nan_is_an_error_of_its_unit_alone(odd, tmp_path):
    """Every photo gives a number; the negative picture climbs down to where there is none."""
    (tmp_path / "feature_models_root.py").write_text(ROOT)
    spec = odd(fractions=[], steps=40)
    model = spec.model.model_copy(update={"reference": "feature_models_root:network"})
    spec = spec.model_copy(update={"model": model, "layers": (LayerSpec(name="last"),)})
    reader = built(spec, "last", (0, 1))
    assert reader.failures("last") == {}
    root, edge = made(spec, "last", 0, 1)
    assert (root.state, root.kind) == ("failed", "non_finite")
    assert "visualization 'negative' of unit 0 of 'last', the best of 2 tries, is or gives NaN" in (
        root.message
    )
    assert (edge.state, edge.message) == ("done", None)
    assert reader.feature_variants("last") == {
        0: ("positive",),
        1: ("negative", "positive"),
    }


CLOSED = '''
import torch
from torch import nn

class Net(nn.Module):
    """Unit 0 sees red through a ReLU that grey does not pass, unit 1 through one that no picture
    passes."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 2, 1)
        self.last = nn.Conv2d(2, 2, 1, groups=2)
        with torch.no_grad():
            self.first.weight.zero_(); self.last.weight.fill_(1.0); self.last.bias.zero_()
            self.first.weight[:, 0] = 1.0
            self.first.bias.copy_(torch.tensor([-0.3, -99.0]))

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))

def network():
    return Net()
'''


def test_a_unit_that_grey_does_not_reach_has_a_picture(odd, tmp_path):
    """A start that is all but grey has nothing to climb there; a louder one has."""
    (tmp_path / "feature_models_closed.py").write_text(CLOSED)
    spec = odd(fractions=[], steps=24, tries=3, negative=False)
    model = spec.model.model_copy(update={"reference": "feature_models_closed:network"})
    spec = spec.model_copy(update={"model": model, "layers": (LayerSpec(name="last"),)})
    reader = built(spec, "last", (0, 1))
    red, never = made(spec, "last", 0, 1)
    assert (red.state, red.message) == ("done", None)
    record = reader.feature_visualization("last", 0, "positive")
    assert record.tries > 1
    assert record.response > 0.5
    # Louder noise that nothing was made of is no picture: it would not be grey.
    assert never.state == "failed"
    assert (
        "visualization 'positive' of channel 1 of 'last', the best of 3 tries, is all but grey"
        in (never.message)
    )


def test_a_model_of_one_size_and_a_size_that_it_does_not_take(odd):
    spec = odd(fractions=[1.0], negative=False, steps=40)
    reader = built(spec, "last", (0, 4))
    assert [receipt.state for receipt in made(spec, "last", 0, 4)] == ["done", "done"]
    records = reader.feature_visualizations("last", 4)
    assert [(one.variant, one.height, one.width) for one in records] == [
        ("positive", 24, 24),
        ("positive.actgrad.1", 24, 24),
    ]
    # All kernels are the network: the same picture, but for rounding.
    assert records[0].response == pytest.approx(records[1].response, rel=0.02)
    sized = odd(fractions=[], size=32)
    with pytest.raises(SpecError, match=r"features.size: the model does not take images of 32 x"):
        made(sized, "last", 0, 4)

"""A spec is read once, checked wholly, and says in one line what is wrong with it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.circuits import FRACTIONS
from circuit_atlas.jobs.spec.layers import DirectionsFile, LayerSpec
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.storage_schema.errors import ModelError, SpecError

SMALL = """
[model]
reference = "torchvision:squeezenet1_1"
[images]
source = "pictures"
[[layers]]
name = "features.7"
"""


def refusal(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        BuildSpec.from_toml(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_are_the_documented_ones() -> None:
    spec = BuildSpec.from_toml(SMALL)
    assert spec.circuits.fractions == FRACTIONS
    assert (spec.circuits.response, spec.circuits.criteria) == ("sum_abs", ("actgrad",))
    assert (spec.circuits.ablation, spec.circuits.top_images) == (("zero",), 10)
    assert spec.layers[0].units == "all"
    assert spec.preprocessing is None
    assert (spec.run.workers, spec.run.batch_size, spec.run.retries) == (0, 16, 2)


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    text = SMALL.replace("[images]", 'weights = "w.pt"\n[images]')
    (tmp_path / "spec.toml").write_text(text + '[run]\nstore = "s3://bucket/atlas"\n')
    spec = BuildSpec.load(tmp_path / "spec.toml")
    assert spec.images.source == str(tmp_path / "pictures")
    assert spec.model.weights == str(tmp_path / "w.pt")
    assert spec.run.store == "s3://bucket/atlas"


def test_the_demo_photos_are_no_path(tmp_path: Path) -> None:
    spec = BuildSpec.from_toml(SMALL.replace("pictures", "demo:photos"), folder=tmp_path)
    assert spec.images.source == "demo:photos"
    assert spec.run.store == str(tmp_path / "atlas")


@pytest.mark.parametrize("name", ["a/train-{000..099}.tar", "train-*.parquet"])
def test_patterns_are_paths_and_urls_are_not(tmp_path: Path, name: str) -> None:
    spec = BuildSpec.from_toml(SMALL.replace("pictures", name), folder=tmp_path)
    assert spec.images.source == str(tmp_path / name)
    for url in (f"s3://bucket/{name}", "https://host/x.npy", "file:///set"):
        spec = BuildSpec.from_toml(SMALL.replace("pictures", url), folder=tmp_path)
        assert spec.images.source == url


def test_toml_round_trip_and_pickle() -> None:
    spec = BuildSpec.from_toml(
        SMALL
        + """units = "0:64:2"
[layers.directions]
"two words" = [1, -2.5e-7]
[[layers]]
name = 'odd "name" ü\\'
units = [3, 1, 3]
[preprocessing]
resize = [64, 48]
mean = [0, 0, 0]
std = [1, 1, 1]
[circuits]
response = [2, 3]
fractions = [0.1, 1.0]
criteria = ["snip", "force", "snip"]
"""
    )
    assert spec.layers[0].directions == {"two words": (1.0, -2.5e-7)}
    assert spec.layers[1].units == (1, 3)
    assert spec.circuits.fractions == (1.0, 0.1)
    assert spec.circuits.criteria == ("snip", "force")
    assert spec.preprocessing is not None
    assert spec.preprocessing.size == (64, 48)
    assert BuildSpec.from_toml(spec.to_toml()) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_science_leaves_out_places_workers_and_the_choice_of_layers() -> None:
    one = BuildSpec.from_toml(SMALL)
    other = BuildSpec.from_toml(
        SMALL.replace("pictures", "/elsewhere/pictures").replace("features.7", "features.9")
        + '[run]\nstore = "x"\nworkers = 3\nbatch_size = 1\n'
    )
    assert one.sha256() == other.sha256()


@pytest.mark.parametrize(
    "change",
    [
        "[circuits]\nseed = 1",
        "[circuits]\nresponse = 'max'",
        "[circuits]\ncriteria = ['snip']",
        "[circuits]\nfractions = [1, 0.5]",
        "[circuits]\nablation = ['mean']",
        "[circuits]\ntop_images = 3",
        "[circuits]\nforce_steps = 3",
        "[circuits]\nforce_score = 'actgrad'",
        "[circuits]\nintegrated_steps = 3",
        "[circuits]\nconnected = true",
        "[circuits]\nstability = true",
        "[preprocessing]\nresize = [8, 8]",
    ],
)
def test_science_holds_all_that_changes_numbers(change: str) -> None:
    assert BuildSpec.from_toml(SMALL).sha256() != BuildSpec.from_toml(SMALL + change).sha256()


ARGUMENTS = """[model.arguments]
num_classes = 10
"a name" = ["x", [1, 2.5], true]
act = { kind = "relu", slope = 0.1 }
"""


def test_arguments_of_the_model() -> None:
    spec = BuildSpec.from_toml(SMALL + ARGUMENTS)
    assert spec.model.arguments == {
        "num_classes": 10,
        "a name": ["x", [1, 2.5], True],
        "act": {"kind": "relu", "slope": 0.1},
    }
    assert spec.science()["model"]["arguments"] == spec.model.arguments
    assert BuildSpec.from_toml(spec.to_toml()) == spec
    other = BuildSpec.from_toml(SMALL + ARGUMENTS.replace("2.5", "2.6"))
    assert other.sha256() != spec.sha256()


def test_a_spec_without_arguments_has_the_fingerprint_that_it_had() -> None:
    spec = BuildSpec.from_toml(SMALL + "[preprocessing]\nresize = [8, 8]\n[model.arguments]\n")
    assert spec.canonical().startswith('{"circuits":{')
    assert '"model":{"reference":"torchvision:squeezenet1_1"}' in spec.canonical()
    assert spec.sha256() == "69301709a7d134124d0b6ccb7eb8f4c82fdd0dd4d7b8527b0984c30af4ae7972"


@pytest.mark.parametrize("value", ["2020-01-01", "[12:00:00]", "inf", "{ a = nan }"])
def test_arguments_that_json_cannot_hold(value: str) -> None:
    line = refusal(f"{SMALL}[model.arguments]\nwidth = {value}")
    assert line.startswith("model.arguments")
    assert "has width = " in line
    assert line.endswith(
        "should be a text, a finite number, true or false, or a list or table of such"
    )


def test_science_holds_the_split() -> None:
    odd = SMALL.replace('"pictures"', '"pictures"\nheld_out = "odd"')
    assert BuildSpec.from_toml(SMALL).sha256() != BuildSpec.from_toml(odd).sha256()


@pytest.mark.parametrize(
    ("resize", "crop"), [(None, 9), (9, 9), (8, (8, 16)), ((8, 16), 8), ((9, 8), (9, 8))]
)
def test_a_crop_that_may_lie_within(resize: Any, crop: Any) -> None:
    assert PreprocessingSpec(resize=resize, crop=crop).crop == crop


def test_resolved_preprocessing_is_part_of_the_science() -> None:
    spec = BuildSpec.from_toml(SMALL)
    resolved = spec.resolved(PreprocessingSpec(resize=(8, 8)))
    assert resolved.science()["preprocessing"]["resize"] == [8, 8]
    assert resolved.sha256() != spec.sha256()


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("[circuits]\ncritera = ['snip']", "unknown key 'circuits.critera': did you mean 'criter"),
        ("[circuit]\nseed = 1", "unknown key 'circuit': did you mean 'circuits'?"),
        ("[run]\nseed = 1", "unknown key 'run.seed': it belongs in [circuits]"),
        ("[run]\nzzz = 1", "unknown key 'run.zzz': there are 13 keys there, 'store', 'device'"),
        ("[circuits]\ncriteria = ['snipp']", "circuits.criteria[0] = 'snipp': did you mean 'snip'"),
        ("[circuits]\ncriteria = 'snip'", "circuits.criteria = 'snip': should be a list"),
        ("[circuits]\nfractions = [1.5]", "1.5 is outside (0, 1]"),
        ("[circuits]\nfractions = [0.0]", "0.0 is outside (0, 1]"),
        ("[circuits]\nfractions = [nan]", "nan is outside (0, 1]"),
        ("[circuits]\nfractions = []", "should have at least one item"),
        ("[circuits]\nresponse = 'mean'", "circuits.response = 'mean': should be \"sum_abs\""),
        ("[circuits]\ntop_images = 0", "circuits.top_images = 0: should be greater than or"),
        ("[run]\nworkers = '2'", "run.workers = '2': should be a valid integer"),
        (
            "[run]\nworkers = 2\nmax_workers = 4",
            "workers, how many there are, and max_workers, how many there may be; leave one out",
        ),
        ("[run]\ndevice = 'gpu'", "run.device = 'gpu': should be \"auto\""),
        ("[preprocessing]\nresize = 64", "preprocessing must give every image the same size"),
        ("[preprocessing]\nresize = [8]", "preprocessing.resize = [8]: should be a number of"),
        ("[preprocessing]\nresize = [8, 8]\nstd = [1, 0, 1]", "should be numbers above 0, one a"),
        ("[preprocessing]\nresize = [8, 8]\nstd = [1, 2]", "mean and std have 3 and 2 numbers"),
        ("[preprocessing]\nresize = 8\nmean = [0.5]", "mean and std have 1 and 3 numbers: give b"),
        ("[preprocessing]\nresize = 8\nmean = []", "preprocessing.mean = []: should have at least"),
        (
            "[preprocessing]\nresize = [8, 16]\ncrop = 9",
            "preprocessing crop = 9 is larger than resize = [8, 16], and would be filled up with b",
        ),
        ("[preprocessing]\nresize = [16, 8]\ncrop = [16, 9]", "crop = [16, 9] is larger than"),
        ("[preprocessing]\nresize = 8\ncrop = [9, 10]", "is larger than resize = 8, and would"),
        ("units = 'some'", "layers[0].units = 'some': should be \"all\", a list"),
        ("units = '0:8:0'", "layers[0].units = '0:8:0': should be"),
        ("units = [-1]", "layers[0].units = [-1]: should be"),
        ("units = []", 'layers[0] names no unit of features.7: set units = "all"'),
        ("directions = {flat = [0, 0]}", "direction 'flat' has no number other than 0"),
        ("[[layers]]\nname = 'features.7'", "layers name 'features.7' twice"),
        ("circuits = 3", "unknown key 'layers[0].circuits'"),
        ("?", "not valid TOML"),
    ],
)
def test_what_is_wrong_and_what_would_be_right(addition: str, message: str) -> None:
    assert message in refusal(SMALL + addition)


@pytest.mark.parametrize("value", ["1.0", "-0.1", "'even'", "[1]", "nan", "true"])
def test_held_out_is_a_fraction_names_or_odd(value: str) -> None:
    text = SMALL.replace('source = "pictures"', f'source = "pictures"\nheld_out = {value}')
    assert refusal(text).startswith("images.held_out = ")


def test_a_misspelt_key_is_named_before_the_one_it_left_missing() -> None:
    line = refusal(SMALL.replace("reference", "refrence"))
    assert line == "unknown key 'model.refrence': did you mean 'reference'? (and 1 more)"
    assert refusal("").startswith("missing key 'model'")


def test_one_layers_table_instead_of_a_list() -> None:
    assert refusal(SMALL.replace("[[layers]]", "[layers]")).endswith("write [[layers]]")


ALL = 'layers = "all"\n' + SMALL.partition("[[layers]]")[0]


def test_all_layers_are_a_pattern() -> None:
    spec = BuildSpec.from_toml(ALL)
    assert spec.layers == (LayerSpec(name="*"),)
    assert spec.sha256() == BuildSpec.from_toml(SMALL).sha256()
    assert BuildSpec.from_toml(spec.to_toml()) == spec
    assert refusal(ALL.replace('"all"', '"some"')) == (
        "layers = 'some': should be \"all\", or tables: write [[layers]]"
    )
    late = SMALL.partition("[[layers]]")[0] + 'layers = "all"\n'
    assert refusal(late).startswith(
        "unknown key 'images.layers': it belongs at the top of the file, before the first table"
    )


def test_code_is_a_folder_of_a_function_and_no_science() -> None:
    text = SMALL.replace("torchvision:squeezenet1_1", "mine:network")
    coded = text.replace("[images]", 'code = "src"\n[images]')
    spec = BuildSpec.from_toml(coded, folder="/there")
    assert spec.model.code == "/there/src"
    assert spec.sha256() == BuildSpec.from_toml(text).sha256()
    assert BuildSpec.from_toml(spec.without_code().to_toml()) == spec.without_code()
    assert refusal(SMALL.replace("[images]", 'code = "src"\n[images]')) == (
        "model has code = 'src', and 'torchvision:squeezenet1_1' is no function of a module in it: "
        "leave code out"
    )


def test_the_table_of_a_layer() -> None:
    spec = BuildSpec.from_values(
        {
            **BuildSpec.from_toml(SMALL).model_dump(mode="json", exclude_none=True),
            "layers": [
                {"name": "features.7.expand3x3", "units": [0]},
                {"name": "features.*.expand3x3", "units": [1]},
                {"name": "features.[89].*", "units": [2]},
            ],
        }
    )

    def units(name: str) -> object:
        table = spec.layer(name)
        return table and (table.name, table.units)

    assert units("features.7.expand3x3") == ("features.7.expand3x3", (0,))
    assert units("features.6.expand3x3") == ("features.6.expand3x3", (1,))
    assert units("features.9.expand3x3") == ("features.9.expand3x3", (2,))
    assert units("features.module.6.expand3x3") == ("features.module.6.expand3x3", (1,))
    assert units("features.6.squeeze") is None


def test_directions_are_of_one_layer() -> None:
    text = SMALL.replace("features.7", "features.*") + "directions = {curve = [1]}"
    assert refusal(text).startswith(
        "layers[0] gives directions to the layers of the pattern 'features.*': they are over the "
    )


def test_a_spec_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no spec at .*gone.toml"):
        BuildSpec.load(tmp_path / "gone.toml")
    with pytest.raises(SpecError, match="cannot be read"):
        BuildSpec.load(tmp_path)
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="cannot be read"):
        BuildSpec.load(tmp_path / "bad.toml")
    (tmp_path / "typo.toml").write_text(SMALL + "unit = 3")
    with pytest.raises(SpecError, match=r"typo.toml: unknown key 'layers\[0\].unit'"):
        BuildSpec.load(tmp_path / "typo.toml")


OF_FILE = """
labels = "classes.txt"
[layers.directions]
file = "sae.safetensors"
names = "names.txt"
activation = "relu"
rows = [3, 1]
"""


def test_directions_of_a_file() -> None:
    spec = BuildSpec.from_toml(SMALL + OF_FILE, folder="/there")
    (layer,) = spec.layers
    assert layer.labels == "/there/classes.txt"
    assert layer.directions == DirectionsFile(
        file="/there/sae.safetensors", names="/there/names.txt", activation="relu", rows=(1, 3)
    )
    assert BuildSpec.from_toml(spec.to_toml()) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec
    # A direction may have any name where there is no file.
    inline = BuildSpec.from_toml(SMALL + "[layers.directions]\nfile = [1, 2]\nrows = [0, 1]")
    assert inline.layers[0].directions == {"file": (1.0, 2.0), "rows": (0.0, 1.0)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            OF_FILE.replace("activation", "activaton"),
            r"unknown key 'layers\[0\].directions.activaton': did you mean 'activation'",
        ),
        (OF_FILE.replace("relu", "topk"), r"layers\[0\].directions.activation = .*'topk'"),
        (OF_FILE.replace("[3, 1]", "'x'"), r"layers\[0\].directions.rows = .*a list of rows"),
        ("[layers.directions]\nfil = 'a'", r"layers\[0\].directions.fil = 'a': should be a list"),
    ],
)
def test_directions_that_a_spec_cannot_have(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        BuildSpec.from_toml(SMALL + text)


def test_units_of_a_layer() -> None:
    of_file = DirectionsFile(file="d.npy", rows="0:6:2")
    assert LayerSpec(name="a", units=(), directions=of_file).resolve(3, 8) == (3, 5, 7)
    assert LayerSpec(name="a").resolve(3, 0) == (0, 1, 2)
    assert LayerSpec(name="a", units=(2, 0)).resolve(3, 0) == (0, 2)
    assert LayerSpec(name="a", units="1:6:2").resolve(8, 0) == (1, 3, 5)
    assert LayerSpec(name="a", units=":").resolve(2, 0) == (0, 1)
    with_direction = LayerSpec(name="a", units=(0,), directions={"up": (1.0, 0.0, 1.0)})
    assert with_direction.resolve(3, 1) == (0, 3)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (LayerSpec(name="a", units=(0, 8)), "unit 8 of layer 'a' is out of range: it has 8 chann"),
        (
            LayerSpec(name="a", units="0:1000000000000"),
            "unit 8 of layer 'a' is out of range.*from 0 to 7",
        ),
        (LayerSpec(name="a", units="9:"), "units '9:' of layer 'a' hold no channel"),
        (
            LayerSpec(name="a", directions=DirectionsFile(file="d.npy", rows=(4,))),
            "row 4 of layer 'a' is out of range: it has 0 directions",
        ),
    ],
)
def test_units_that_a_layer_does_not_have(layer: LayerSpec, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        layer.resolve(8, 0)


LEARNED = """[circuits]
criteria = ["actgrad", "learned"]
ablation = ["mean", "zero"]
"""


def test_training_is_science_where_something_is_trained() -> None:
    plain, trained = BuildSpec.from_toml(SMALL), BuildSpec.from_toml(SMALL + LEARNED)
    assert BuildSpec.from_toml(SMALL + "[learned]\nsteps = 7").sha256() == plain.sha256()
    assert "learned" not in plain.science()
    assert trained.science()["learned"]["ablation"] == "mean"
    assert "seeds" not in trained.science()["learned"]  # as before there could be several
    for change in ("steps = 7", "crop = 64", "batch = 3", "rate = 0.01", "seed = 1", "seeds = 3"):
        other = BuildSpec.from_toml(SMALL + LEARNED + f"[learned]\n{change}")
        assert other.sha256() != trained.sha256(), change
    named = BuildSpec.from_toml(SMALL + LEARNED + '[learned]\nablation = "zero"')
    assert named.science()["learned"]["ablation"] == "zero"
    # What is taken by default and the same said are the same.
    said = BuildSpec.from_toml(SMALL + LEARNED + '[learned]\nablation = "mean"')
    assert said.sha256() == trained.sha256()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("steps = 0", "learned.steps"),
        ("crop = 8", "learned.crop"),
        ("batch = 0", "learned.batch"),
        ("rate = 0.0", "learned.rate"),
        ("rate = inf", "learned.rate"),
        ("seed = -1", "learned.seed"),
        ("seeds = 0", "learned.seeds"),
        ('ablation = "both"', "learned.ablation"),
        ("step = 3", "steps"),
    ],
)
def test_a_value_of_training_out_of_range_is_refused_in_a_line(line: str, told: str) -> None:
    with pytest.raises(SpecError) as caught:
        BuildSpec.from_toml(f"{SMALL}[learned]\n{line}")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)

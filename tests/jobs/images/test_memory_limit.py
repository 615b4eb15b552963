"""A pass over the images of an atlas, under a limit on a process' memory that they exceed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from tests.jobs.builds import lay_out

COUNT, SIDE, BATCH = 1000, 192, 16
SIZE_BYTES = COUNT * 3 * SIDE * SIDE
# Far less than the images take: a batch as the network reads it, twice, and some chunks of pixels.
LIMIT_BYTES = SIZE_BYTES // 2

# Opens the images and reads a batch, so that everything is loaded; then goes on through all with so
# many bytes more than it has.
PASS = """
import json, resource, sys
from pathlib import Path
import numpy as np
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.atlas_images import atlas_images
from circuit_atlas.storage_schema.reader import Reader

spec, limit_bytes, batch = BuildSpec.load(sys.argv[1]), *map(int, sys.argv[2:])
images = atlas_images(Reader(spec.run.store), spec.preprocessing)
images.batch(range(batch))
lines = Path("/proc/self/status").read_text().splitlines()
used_bytes = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, 2 * (used_bytes + limit_bytes,))
total = 0.0
for start in range(0, len(images.infos), batch):
    read = images.batch(range(start, min(start + batch, len(images.infos))))
    total += float(read.numpy().sum(dtype=np.float64))
print(json.dumps(total))
"""


def test_a_pass_needs_less_memory_than_the_images_take(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (COUNT, 3, SIDE, SIDE), np.uint8)
    np.save(tmp_path / "images.npy", noise)
    spec = BuildSpec.from_values(
        {
            "model": {"reference": "torchvision:squeezenet1_1", "pretrained": False},
            "images": {"source": str(tmp_path / "images.npy")},
            "preprocessing": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
            "layers": [{"name": "features.0", "units": [0]}],
            "run": {"store": str(tmp_path / "atlas"), "self_check": False},
        }
    )
    lay_out(spec)
    (tmp_path / "spec.toml").write_text(spec.to_toml())
    numbers = (str(LIMIT_BYTES), str(BATCH))
    done = subprocess.run(
        [sys.executable, "-c", PASS, str(tmp_path / "spec.toml"), *numbers],
        # What is freed goes back at once: else glibc keeps up to five batches, by chance, and what
        # it keeps is not what a pass needs.
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The sum of all inputs, whose rounding in single precision has either sign.
    total = (noise.sum(dtype=np.float64) / 255 - noise.size / 2) / 0.5
    assert json.loads(done.stdout) == pytest.approx(total, abs=1e-7 * noise.size)

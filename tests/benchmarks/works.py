"""The lines of the table, at full size and at one that takes a minute."""

from __future__ import annotations

from collections.abc import Callable

from tests.benchmarks import builds, engine, images, layers, redrawn, responses
from tests.benchmarks.measured import Row
from tests.benchmarks.subjects import ALEXNET, DEMO, RESNET

WORKS: dict[str, tuple[Callable[[], Row], Callable[[], Row]]] = {
    "actgrad-demo": (
        lambda: engine.actgrad(DEMO, units=128, images=20, slow=3),
        lambda: engine.actgrad(DEMO, units=2, images=1, slow=1),
    ),
    "actgrad-alexnet": (
        lambda: engine.actgrad(ALEXNET, units=256, images=16, slow=3),
        lambda: engine.actgrad(ALEXNET, units=2, images=1, slow=1),
    ),
    "actgrad-resnet": (
        lambda: engine.actgrad(RESNET, units=256, images=4, slow=4),
        lambda: engine.actgrad(DEMO, units=1, images=1, slow=1),
    ),
    "snip-demo": (
        lambda: engine.snip(DEMO, units=128, images=20, slow=5),
        lambda: engine.snip(DEMO, units=2, images=1, slow=1),
    ),
    "snip-alexnet": (
        lambda: engine.snip(ALEXNET, units=256, images=16, slow=5),
        lambda: engine.snip(ALEXNET, units=2, images=1, slow=1),
    ),
    "force-demo": (
        lambda: engine.force(DEMO, units=16, images=10, slow=3),
        lambda: engine.force(DEMO, units=1, images=1, slow=1),
    ),
    "force-alexnet": (
        lambda: engine.force(ALEXNET, units=16, images=8, slow=3),
        lambda: engine.force(ALEXNET, units=1, images=1, slow=1),
    ),
    "faithfulness-demo": (
        lambda: engine.faithfulness(DEMO, units=128, images=20, slow=2),
        lambda: engine.faithfulness(DEMO, units=1, images=2, slow=1),
    ),
    "profile-demo": (
        lambda: engine.profile(DEMO, units=16),
        lambda: engine.profile(DEMO, units=1),
    ),
    "profile-alexnet": (
        lambda: engine.profile(ALEXNET, units=16),
        lambda: engine.profile(ALEXNET, units=1),
    ),
    "growth-alexnet": (
        lambda: engine.growth(ALEXNET, units=(16, 32, 64, 128, 256), images=(4, 8, 16, 32, 64)),
        lambda: engine.growth(ALEXNET, units=(1, 2), images=(1, 2)),
    ),
    "places-alexnet": (
        lambda: engine.places(
            ALEXNET, layers=("features.3", "features.6", "features.8", "features.10"), units=32
        ),
        lambda: engine.places(ALEXNET, layers=("features.3", "features.6"), units=2),
    ),
    "summary-layer": (lambda: layers.summary(units=1000), lambda: layers.summary(units=8, times=1)),
    "tables-layer": (lambda: layers.tables(units=400), lambda: layers.tables(units=8, times=1)),
    "masks-layer": (lambda: layers.masks(units=1000), lambda: layers.masks(units=8, times=1)),
    "units-layer": (
        lambda: layers.answer("units", units=1000),
        lambda: layers.answer("units", units=8, times=1),
    ),
    "distribution-layer": (
        lambda: layers.answer("distribution", units=1000),
        lambda: layers.answer("distribution", units=8, times=1),
    ),
    "images": (
        lambda: images.photos(counts=(1000, 2000, 5000, 10_000, 20_000)),
        lambda: images.photos(counts=(20, 150)),
    ),
    "responses": (
        lambda: responses.responses(images=50_000, units=8),
        lambda: responses.responses(images=520, units=1, each=4),
    ),
    "stability": (
        lambda: redrawn.stability(kernels=200_000, images=50),
        lambda: redrawn.stability(kernels=500, images=11, times=1),
    ),
    "certificate": (
        lambda: redrawn.certificate(kernels=200_000, images=50),
        lambda: redrawn.certificate(kernels=500, images=11, times=1),
    ),
    "workers-demo": (lambda: builds.workers(units=64), lambda: builds.workers(units=2, images=2)),
    "demo": (lambda: builds.demo(units="all"), lambda: builds.demo(units="1", executor="local")),
}
"""By name: what measures a line at full size, and at a small one."""

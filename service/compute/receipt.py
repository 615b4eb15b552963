"""What an extracted circuit is, what it costs, and how far it is from the masked network."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Receipt:
    """States what was extracted. Where a field has a twin with `_whole`, that is of the whole
    network up to the layer.

    Attributes:
        layer: path of the unit's module.
        unit: its name.
        model: the model's reference.
        weights_sha256: fingerprint of the model's weights.
        ablation: what dropped kernels are: zero, or mean.
        kernels: in the circuit.
        kernels_whole: that can reach the unit.
        kernels_run: of the circuit's, those that the extracted network has; the others read or
            write a channel that plays no part, or that is the same for every image.
        parameters: numbers that are stored, constant maps among them.
        parameters_whole: the same.
        multiply_adds: for one image.
        multiply_adds_whole: the same.
        milliseconds: for a batch, in the fastest of runs that take turns with the whole network's.
        milliseconds_whole: the same.
        batch: images of that batch.
        threads: that torch ran it with.
        device: that it ran on.
        difference: the largest absolute difference from the masked network's output, on `images`
            images.
        response_range: from the smallest to the largest output of the masked network on them, 0
            among them.
        images: how many images that was measured on.
        noise: whether they were drawn at random.
        image_shape: (channels, height, width) of the images.
        fixed: why images must have that height and width; "" where others will do.
    """

    layer: str
    unit: str
    model: str
    weights_sha256: str
    ablation: str
    kernels: int
    kernels_whole: int
    kernels_run: int
    parameters: int
    parameters_whole: int
    multiply_adds: int
    multiply_adds_whole: int
    milliseconds: float
    milliseconds_whole: float
    batch: int
    threads: int
    device: str
    difference: float
    response_range: float
    images: int
    noise: bool
    image_shape: tuple[int, int, int]
    fixed: str

    @property
    def speed_up(self) -> float:
        """Divide the whole network's time by that of the extracted one."""
        return self.milliseconds_whole / self.milliseconds

    @property
    def relative_difference(self) -> float:
        """Divide the largest difference by the response's range: 0 where there is none, infinity
        where the masked network gives 0 alone and the extracted one does not."""
        if not self.difference:
            return 0.0
        return self.difference / self.response_range if self.response_range else math.inf

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, `speed_up` and `relative_difference`, which is None where it is
        infinite, fit for JSON."""
        relative = self.relative_difference
        return {
            **asdict(self),
            "image_shape": list(self.image_shape),
            "speed_up": self.speed_up,
            "relative_difference": relative if math.isfinite(relative) else None,
        }

    def __str__(self) -> str:
        channels, height, width = self.image_shape
        images = "images of noise" if self.noise else "images"
        size = f"{height} x {width}" + (f" alone: {self.fixed}" if self.fixed else ", or another")
        run = f"{self.kernels_run:,} have to be run"
        if not self.kernels_run:
            run = "none has to be run: the output is the same for every image"
        share = f"{self.relative_difference:.1g} of its range"
        if not math.isfinite(self.relative_difference):
            share = "which gives 0 alone"
        rows = {
            "kernels": f"{self.kernels:,} of {self.kernels_whole:,}; {run}",
            "parameters": _share(self.parameters, self.parameters_whole),
            "multiply-adds": _share(self.multiply_adds, self.multiply_adds_whole) + " an image",
            "time": f"{self.milliseconds:.3g} ms of {self.milliseconds_whole:.3g} ms for a batch "
            f"of {self.batch}: {self.speed_up:.3g} times as fast ({self.device}, "
            f"{self.threads} thread{'' if self.threads == 1 else 's'})",
            "difference": f"{self.difference:.2g} at most from the masked network, "
            f"{share}, on {self.images} {images}",
            "images": f"{channels} channels, {size}",
        }
        title = f"{self.layer}/{self.unit} of {self.model}, {self.ablation} ablation"
        width_of_name = max(map(len, rows))
        return "\n".join(
            [title, *(f"  {name:{width_of_name}}  {row}" for name, row in rows.items())]
        )


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}" + (f" ({part / whole:.1%})" if whole else "")

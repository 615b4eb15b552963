"""Images that are tensors, as they were before the model's preprocessing."""

from __future__ import annotations

import numpy as np
import torch

from circuit_atlas.jobs.images.tensor_images import TensorImages
from tests.jobs.images.pictures import shown


def test_a_drawing_shows_the_images_as_they_were() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    levels = torch.randint(0, 256, (3, 3, 12, 12), generator=torch.Generator().manual_seed(0))
    levels[0, :, 0, 0], levels[0, :, 0, 1] = 0, 255
    shape = (1, 3, 1, 1)
    images = (levels / 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    for options in ({"mean": mean, "std": std}, {}):
        for image in range(3):
            found = shown(TensorImages(images, **options), image)
            np.testing.assert_array_equal(found, levels[image].permute(1, 2, 0).numpy())

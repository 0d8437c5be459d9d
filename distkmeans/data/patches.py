"""data=patches: the 8 x 8 x 3 patches, stride 2, of scikit-learn's two sample photographs: 133,140 x 192, uint8."""

from __future__ import annotations

import numpy as np
import torch

from distkmeans.data import sources
from distkmeans.data.held import Held

SIDE, STRIDE = 8, 2


@sources.register("patches")
def open_patches() -> Held:
    """Photograph by photograph, then top to bottom, left to right; a row is a patch in (y, x, colour) order."""
    from sklearn.datasets import load_sample_images

    parts = []
    for image in load_sample_images().images:
        windows = np.lib.stride_tricks.sliding_window_view(image, (SIDE, SIDE), axis=(0, 1))[::STRIDE, ::STRIDE]
        parts.append(windows.transpose(0, 1, 3, 4, 2).reshape(-1, SIDE * SIDE * image.shape[2]))
    return Held(torch.from_numpy(np.concatenate(parts)), "patches", image=(SIDE, SIDE, 3))

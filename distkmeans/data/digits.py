"""data=digits: 1,797 handwritten digits of 8 x 8 pixels (scikit-learn's ``load_digits``), float64 values 0 to 16."""

from __future__ import annotations

import torch

from distkmeans.data import sources
from distkmeans.data.held import Held


@sources.register("digits")
def open_digits() -> Held:
    """1,797 x 64 float64, and the digit that each row shows."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return Held(torch.from_numpy(data.data), "digits", torch.from_numpy(data.target), image=(8, 8))

"""Assignment kernels: which centroid is nearest to each row.

Kernels are interchangeable: with ``exact=True`` every one of them publishes the same labels, the true argmin. They
differ in how they bound the error of their fast pass, and so in how many rows go to ``exact.arbiter``.
"""

from __future__ import annotations

import importlib.util
from typing import Protocol

import torch
from torch import Tensor

OLDEST_GPU = (8, 0)
"""Compute capability from which the Triton kernels are used: what they were compiled for."""


def why_not_triton(device: torch.device) -> str:
    """Why the Triton kernels cannot serve rows on a device, or nothing."""
    if device.type != "cuda":
        return "it is for rows on a GPU"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if torch.version.cuda and torch.cuda.get_device_capability(device) < OLDEST_GPU:
        return f"it is for GPUs of compute capability {OLDEST_GPU[0]}.{OLDEST_GPU[1]} and later"
    return ""


class Kernel(Protocol):
    """Assigns the rows that it was made for, iteration after iteration."""

    @property
    def name(self) -> str:
        """For logs and summaries."""

    def assign(self, centroids: Tensor, labels: Tensor) -> int:
        """Write the label of each row into ``labels`` (N,); the number of rows that the fast pass left open."""

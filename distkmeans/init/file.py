"""init=file: centroids from an npy file, or the tensor ``centroids`` of a safetensors file."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor

from distkmeans.data.array import as_rows
from distkmeans.errors import InputError
from distkmeans.init import Seeds, inits
from distkmeans.init.given import Given, check_shape
from distkmeans.problem import Problem


@inits.register("file")
class File:
    """path: FILE.npy or FILE.safetensors. Read by rank 0, shared."""

    draws = False

    def __init__(self, path: str | None = None) -> None:
        if not path:
            raise InputError("init.path: not given; init=file needs an npy or safetensors file")
        self.path = path

    def check(self, k: int, dims: int) -> None:
        """Raise InputError, before rows are read, for a file that holds no k centroids of ``dims`` columns."""
        check_shape(read_centroids(self.path, f"init.path={self.path}"), k, dims, f"init.path={self.path}")

    def __call__(self, problem: Problem, k: int, seed: int) -> Seeds:
        with problem.world.guard():
            values = read_centroids(self.path, f"init.path={self.path}")
        return Given(values, f"init.path={self.path}")(problem, k, seed)


def read_centroids(path: str, what: str) -> Tensor:
    """(K, D) from a file. Raises InputError."""
    if not os.path.isfile(path):
        raise InputError(f"{what}: no such file (relative to {os.getcwd()})")
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return _centroids_of(load_file(path), what)
        return as_rows(np.load(path, allow_pickle=False), what)
    except InputError:
        raise
    except Exception as error:  # whatever the two libraries raise for a damaged file
        reason = "pickled objects are never loaded" if "pickle" in str(error) else str(error).split("\n")[0]
        raise InputError(f"{what}: cannot be read as npy or safetensors ({reason})") from error


def _centroids_of(tensors: dict[str, Tensor], what: str) -> Tensor:
    if "centroids" not in tensors:
        raise InputError(f"{what}: holds {', '.join(sorted(tensors)) or 'no tensors'}; expected the tensor centroids")
    values = tensors["centroids"]
    return as_rows(values if values.is_floating_point() else values.to(torch.float64), what)

"""init=file: centroids from an npy file, or the tensor ``centroids`` of a safetensors file."""

from __future__ import annotations

from distkmeans.data.centroid_file import read_centroids
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

"""Labels of rows that are seen once, such as the batches of a stream: nothing is kept of them."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from distkmeans import native
from distkmeans.errors import InputError
from distkmeans.kernels import Kernel
from distkmeans.kernels.choose import Choice
from distkmeans.kernels.dense import Dense
from distkmeans.kernels.narrow import Narrow

OnceName = Literal["auto", "dense", "narrow", "triton"]


class Once:
    """Assigns whatever rows it is given: of the type and width of ``like`` (n, D), to centroids like those (K, D).

    largest: absolute value that no row and no centroid exceeds. tile_rows: of the dense kernel, which it asks for.
    Raises InputError for a kernel that cannot be had.
    """

    def __init__(
        self,
        like: Tensor,
        centroids: Tensor,
        largest: float,
        tile_rows: int | None = None,
        exact: bool = True,
        kernel: OnceName = "auto",
    ) -> None:
        self.largest, self.tile_rows, self.exact = largest, tile_rows, exact
        choice = Choice(like, centroids, native.library_for(like, centroids), largest, exact)
        self.library = choice.library
        names = ["dense"] if tile_rows and kernel == "auto" else ["triton", "narrow", "dense"]
        able = [name for name in names if not choice.refusal(name)]
        refusal = "" if kernel == "auto" else choice.refusal(kernel)
        if refusal:
            raise InputError(f"solver.kernel={kernel}: {refusal}; use auto")
        self.kind = able[0] if kernel == "auto" else kernel
        self.name = self._kernel(like[:0], centroids).name

    def assign(self, rows: Tensor, centroids: Tensor, labels: Tensor) -> int:
        """Write the label of each row (n, D) into ``labels`` (n,); the number of rows that the fast pass left open."""
        return self._kernel(rows, centroids).assign(centroids, labels)

    def _kernel(self, rows: Tensor, centroids: Tensor) -> Kernel:
        if self.kind == "triton":
            from distkmeans.kernels.triton import Fused  # reads TRITON_INTERPRET as it is imported

            return Fused(rows, centroids, self.largest, None, self.exact)
        if self.kind == "narrow" and self.library is not None:
            return Narrow(rows, self.library, centroids, self.largest, self.exact)
        return Dense(rows, centroids, self.largest, self.tile_rows, self.exact)

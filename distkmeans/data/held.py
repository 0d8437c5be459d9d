"""A source whose rows are all in memory: the built-in sets."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


class Held:
    """rows: (N, D) as stored. truth: int64 (N,), the class of each row, if it is known; then ``truth(start, stop)``
    tells it. image: the shape of a row that is a picture."""

    def __init__(
        self, values: Tensor, title: str, truth: Tensor | None = None, image: tuple[int, ...] | None = None
    ) -> None:
        self.values = values
        self.title = title
        self.truth: Callable[[int, int], Tensor] | None = (
            None if truth is None else lambda start, stop: truth[start:stop]
        )
        self.image = image
        self.rows, self.dims = values.shape

    def read(self, start: int, stop: int) -> Tensor:
        return self.values[start:stop]

    def name(self, row: int) -> str:
        return f"data={self.title}, row {row}"

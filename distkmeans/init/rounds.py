"""Rounds of greedy k-means++ on the grid, by the compiled kernels: what ``Potential`` else does in torch, bit for bit.

A row p whose centre o is so near that a new one c has |o - c| >= 2 |p - o| is not looked at: |p - c| >= |p - o| (Raff
2021, Exact acceleration of k-means++ and k-means||). The others meet the fast pass of ``lattice``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.init.lattice import Lattice, Placed
from distkmeans.init.mass import BLOCK_ROWS, Blocks, Mass


class Rounds:
    """What a round needs of a potential, whose ``nearest``, ``owner`` and ``blocks`` are changed in place."""

    def __init__(self, library: native.Library, space: Lattice, nearest: Tensor, owner: Tensor, blocks: Blocks) -> None:
        dims, self.library = space.kept.shape[1], library
        self.before, self.before_squares = torch.empty(0, dims), torch.empty(0, dtype=torch.float64)
        self.apart = torch.empty(0, dtype=torch.float64)
        self.columns = torch.zeros(dims, native.MOST_TRIALS)
        self.bias = torch.zeros(native.MOST_TRIALS)
        self.task = native.Trial(
            points=space.kept.data_ptr(),
            point_squares=space.squares.data_ptr(),
            weights=None if blocks.weights is None else blocks.weights.data_ptr(),
            nearest=nearest.data_ptr(),
            owner=owner.data_ptr(),
            levels=space.levels.data_ptr(),
            blocks=blocks.sums.data_ptr(),
            columns=self.columns.data_ptr(),
            bias=self.bias.data_ptr(),
            slack=space.slack / 3,
            keep=0.5 * (1 - space.slack),
            give=0.5 * (1 + space.slack),
            count=len(nearest),
            dims=dims,
            width=blocks.width,
            block_rows=BLOCK_ROWS,
        )
        self.kept_alive = space, nearest, owner, blocks
        self.placed: Placed | None = None

    @staticmethod
    def of(space: object, nearest: Tensor, owner: Tensor, blocks: Blocks) -> Rounds | None:
        """None where the kernels do not serve: without them, with memory=low, or away from the grid."""
        if not isinstance(space, Lattice) or space.frugal:
            return None
        library = native.library_for(space.kept)
        return None if library is None else Rounds(library, space, nearest, owner, blocks)

    def note(self, placed: Placed) -> None:
        """Take note of more centres, by whose numbers rows are owned."""
        task, more = self.task, len(placed.narrow)
        if task.taken + more > len(self.before):
            room = 2 * (task.taken + more)
            self.before = _grown(self.before, room)
            self.before_squares, self.apart = _grown(self.before_squares, room), _grown(self.apart, room)
            places = (part.data_ptr() for part in (self.before, self.before_squares, self.apart))
            task.before, task.before_squares, task.apart = places
        self.before[task.taken : task.taken + more] = placed.narrow
        self.before_squares[task.taken : task.taken + more] = placed.squares
        task.taken += more

    def mass_with(self, placed: Placed, mass: Mass, which: Tensor, distances: Tensor) -> tuple[Mass, int]:
        """What would be left of a mass after adding each centre alone, (m, L + 1); how many rows come closer to any.

        Of these, as many as there is room for are written to ``which`` and their ``distances``.
        """
        count, task = len(placed.bias), self.task
        left, self.placed = torch.zeros(count, task.width, dtype=torch.int64), placed
        self.columns[:, :count] = placed.narrow.t()
        self.bias[:count] = placed.bias
        task.centres, task.squares = placed.narrow.data_ptr(), placed.squares.data_ptr()
        task.which, task.distances, task.room = which.data_ptr(), distances.data_ptr(), len(which)
        task.lost, task.trials, task.found, task.next = left.data_ptr(), count, 0, 0
        self.library.run("apart", task, task.taken * task.dims)
        self.library.run("try", task, task.count * task.dims)
        return Mass(torch.sub(mass.parts, left)), task.found

    def take(self, best: int) -> None:
        """Take one of the centres of ``mass_with``, whose rows there was room for."""
        assert self.placed is not None
        self.library.take_trial(self.task, best)
        self.note(Placed(*(part[best : best + 1] for part in vars(self.placed).values())))

    def rows_at(self, places: list[int]) -> list[int]:
        """As ``Potential.rows_at``."""
        return self.library.rows_at(self.task, places)


def _grown(values: Tensor, room: int) -> Tensor:
    larger = values.new_empty(room, *values.shape[1:])
    larger[: len(values)] = values
    return larger

"""How many rows have both of two labels, over all ranks: all that scores of agreement need to know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distkmeans.world import World

DENSE_CELLS = 1 << 22
"""Cells of a table up to which all of them are counted; of a larger one only those that occur."""
TILE_ROWS = 1 << 20


@dataclass(frozen=True)
class Contingency:
    """The cells of a table of classes by clusters that hold rows: int64 (M,) each.

    count: rows of a cell. in_row, in_column: rows of its class, and of its cluster. rows, columns: int64, rows of each
    class and cluster that has any. total: of all.
    """

    count: np.ndarray
    in_row: np.ndarray
    in_column: np.ndarray
    rows: np.ndarray
    columns: np.ndarray

    @property
    def total(self) -> int:
        return int(self.count.sum())


def contingency(world: World, first: Tensor, second: Tensor) -> Contingency:
    """The table of two labels per row: integers (n,), 0 or more, of this rank's rows. A collective."""
    largest = [int(values.max()) if len(values) else -1 for values in (first, second)]
    size = world.max_(torch.tensor(largest, device=first.device)) + 1
    width, cells = int(size[1]), int(size[0]) * int(size[1])
    with world.guard():
        mine = _counted(first, second, width, cells)
    cell, place = world.concat(mine[0]).unique(return_inverse=True)
    count = torch.zeros_like(cell).index_add_(0, place, world.concat(mine[1])).cpu().numpy()
    row, column = np.divmod(cell.cpu().numpy(), width)
    _, row, rows = _added(row, count)
    _, column, columns = _added(column, count)
    return Contingency(count, rows[row], columns[column], rows, columns)


def _counted(first: Tensor, second: Tensor, width: int, cells: int) -> tuple[Tensor, Tensor]:
    """The cells that this rank's rows are in, int64 (m,), and how many in each."""
    found, counts = [], []
    table = torch.zeros(cells if cells <= DENSE_CELLS else 0, dtype=torch.int64, device=first.device)
    for a, b in zip(first.split(TILE_ROWS), second.split(TILE_ROWS), strict=True):
        cell = a.to(torch.int64) * width + b
        if len(table):
            table += torch.bincount(cell, minlength=cells)
            continue
        cell, count = cell.unique(return_counts=True)
        found.append(cell)
        counts.append(count)
    if found:
        cell, place = torch.cat(found).unique(return_inverse=True)
        return cell, torch.zeros_like(cell).index_add_(0, place, torch.cat(counts))
    cell = table.nonzero().flatten()
    return cell, table[cell]


def _added(key: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Different keys, the place of each key among them, and the counts added up by key."""
    different, place = np.unique(key, return_inverse=True)
    total = np.zeros(len(different), np.int64)
    np.add.at(total, place, count)
    return different, place, total

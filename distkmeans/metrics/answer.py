"""What a function of the user's own returns, as a tensor; whatever is wrong with it becomes one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from distkmeans.errors import InputError, first_line


def answer(
    function: Callable[..., Any], first: Tensor, second: Tensor | None, shape: tuple[int, ...], what: str
) -> Tensor:
    """function(first, second) as float64 of this shape, on the device of ``first``; it may return an array.

    what: how to name the function to the user. Raises InputError where it raises, or returns anything else.
    """
    try:
        result = function(first, second)
    except InputError:
        raise
    except Exception as error:
        given = " and ".join(str(tuple(values.shape)) for values in (first, second) if values is not None)
        raise InputError(
            f"{what} fails ({type(error).__name__}: {first_line(error)}); it is given {given}, torch.float64 on"
            f" {first.device}"
        ) from error
    try:
        values = torch.as_tensor(result).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(result).__name__
        raise InputError(f"{what} returns {kind}; expected a tensor or an array of the shape {shape}") from error
    if values.shape != shape:
        raise InputError(f"{what} returns the shape {tuple(values.shape)}; expected {shape}")
    return values.to(first.device, torch.float64)

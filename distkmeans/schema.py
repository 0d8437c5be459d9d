"""What a user may give, read from the signature that takes it: names, types, ranges. The one place that checks them.

``check(Lloyd, {"tol": -1}, "solver.")`` raises ``solver.tol=-1: expected a number, 0 or more``, because ``Lloyd`` says
``tol: Annotated[float, Range(0)]``. Configurations, ``distkmeans.fit`` and the help text all go by the same signatures.
"""

from __future__ import annotations

import collections.abc
import difflib
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from distkmeans.errors import InputError

KINDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class Range:
    """Bounds of a number, in ``Annotated[int, Range(1)]``: ``least`` and ``most`` may be met, ``above`` may not."""

    least: float | None = None
    most: float | None = None
    above: float | None = None

    def __contains__(self, number: float) -> bool:
        return (
            (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
        )

    def __str__(self) -> str:
        if self.least is None:
            return f"above {self.above:,}"
        has_end = self.most is not None and self.most < 2**53  # beyond, it is only what a machine can count
        return f"{self.least:,} to {self.most:,}" if has_end else f"{self.least:,} or more"


class _UnfitError(Exception):
    """A value is not of the type that a signature asks for."""


def check(taker: Callable[..., Any], given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values as the taker (a function, class or dataclass) wants them. Raises InputError, naming ``prefix`` + key.

    Whole numbers may be written as floats (1e6). What is not given is left to the taker's default.
    """
    parameters = inspect.signature(taker).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    hints = hints_of(taker)
    for name in given:
        if name not in parameters and not open_ended:
            known = [f"{prefix}{key}" for key in parameters]
            keys = f"the keys here are {listed(known, 'and')}" if known else f"{prefix.rstrip('.')} takes none"
            raise InputError(f"{prefix}{name}: unknown key{nearest_key(f'{prefix}{name}', known)}; {keys}")
    for name, parameter in parameters.items():
        if name not in given and parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            raise InputError(f"{prefix}{name}: not given; expected {described(hints.get(name, Any))}")
    return {name: check_value(f"{prefix}{name}", value, hints.get(name, Any)) for name, value in given.items()}


def check_value(field: str, value: Any, hint: Any) -> Any:
    """The value as the hint wants it. Raises InputError, naming the field, what was given and what is allowed."""
    try:
        return _fitted(value, hint)
    except _UnfitError:
        words = [choice for choice in _choices(hint) if isinstance(choice, str)]
        raise InputError(f"{field}={written(value)}: expected {described(hint)}{nearest(str(value), words)}") from None


def hints_of(taker: Callable[..., Any]) -> dict[str, Any]:
    """The types of a taker's parameters, with their ranges."""
    plain = inspect.isclass(taker) and "__init__" in vars(taker) and not hasattr(taker, "__dataclass_fields__")
    return typing.get_type_hints(taker.__init__ if plain else taker, include_extras=True)


def described(hint: Any) -> str:
    """A type in words: ``a whole number, 1 or more, or null``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return f"{described(arguments[0])}, {arguments[1]}"
    if origin is Literal:
        return listed([str(choice) for choice in arguments], "or")
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if part is types.NoneType else described(part) for part in arguments)
    if _is_list(origin):
        return f"a list, each {described(arguments[0])}" if arguments else "a list"
    return KINDS.get(hint, "a value" if hint is Any else getattr(hint, "__name__", str(hint)))


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean ...?`` for the known word that is nearest, empty where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def nearest_key(key: str, known: Sequence[str]) -> str:
    """The same for a key such as ``solver.maxiter``: first among those beside it, then by its last part alone."""
    prefix, _, last = key.rpartition(".")
    for keys in ([name for name in known if name.rpartition(".")[0] == prefix], known):
        lasts = {name.rpartition(".")[2]: name for name in reversed(keys)}
        near = difflib.get_close_matches(last, list(lasts), n=1)
        if near:
            return f"; did you mean {lasts[near[0]]}?"
    return ""


def listed(words: Sequence[str], last: str) -> str:
    """``a, b or c``."""
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else "".join(words)


def written(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def _fitted(value: Any, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        number = _fitted(value, arguments[0])
        if number not in arguments[1]:
            raise _UnfitError
        return number
    if origin is Literal:
        if isinstance(value, (str, bool, int)) and value in arguments:
            return value
        raise _UnfitError
    if origin in (typing.Union, types.UnionType):
        return _first_fitting(value, arguments)
    if _is_list(origin):
        if isinstance(value, (str, bytes)) or not isinstance(value, collections.abc.Iterable):
            raise _UnfitError
        return [_fitted(item, arguments[0] if arguments else Any) for item in value]
    return _plain(value, hint)


def _first_fitting(value: Any, hints: Sequence[Any]) -> Any:
    for hint in hints:
        try:
            return _fitted(value, hint)
        except _UnfitError:
            continue
    raise _UnfitError


def _plain(value: Any, hint: Any) -> Any:
    if hint is int:
        return _whole(value)
    if hint is float:
        number = float(value) if hasattr(value, "__float__") and not isinstance(value, bool) else math.nan
        if not math.isfinite(number):
            raise _UnfitError
        return number
    if hint in (str, bool, types.NoneType) and not isinstance(value, hint):
        raise _UnfitError
    return value


def _whole(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise _UnfitError
    return int(value.__index__())


def _choices(hint: Any) -> list[Any]:
    if typing.get_origin(hint) is Literal:
        return list(typing.get_args(hint))
    return [choice for part in typing.get_args(hint) if not isinstance(part, Range) for choice in _choices(part)]


def _is_list(origin: Any) -> bool:
    return inspect.isclass(origin) and issubclass(origin, collections.abc.Sequence)

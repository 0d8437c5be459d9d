"""Named pieces: one module per piece, imported when its name is first asked for."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from typing import Generic, TypeVar

from distkmeans.errors import InputError

Piece = TypeVar("Piece")


class Registry(Generic[Piece]):
    """The pieces of one package under the names that a config uses.

    ``Registry("init", "distkmeans.init")`` finds ``plus_plus`` in ``distkmeans/init/plus_plus.py``, which registers
    itself by decorating the piece with ``@registry.register("plus_plus")``. A new piece is a new file; a user's own
    module registers further names when it is imported. Nothing else can be reached by name.
    """

    def __init__(self, field: str, package: str) -> None:
        self.field = field
        self.package = package
        self._pieces: dict[str, Piece] = {}

    def register(self, name: str) -> Callable[[Piece], Piece]:
        """Decorator: make the piece known under ``name``."""

        def keep(piece: Piece) -> Piece:
            self._pieces[name] = piece
            return piece

        return keep

    def names(self) -> list[str]:
        """Every name that can be asked for, sorted."""
        for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        return sorted(self._pieces)

    def __getitem__(self, name: str) -> Piece:
        """The piece called ``name``. Raises InputError, with the known names, where there is none."""
        if name not in self._pieces and isinstance(name, str) and name.isidentifier():
            module = f"{self.package}.{name}"
            if importlib.util.find_spec(module) is not None:
                importlib.import_module(module)
        if name not in self._pieces:
            near = difflib.get_close_matches(str(name), self.names(), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"{self.field}={name}: unknown; it is one of {', '.join(self.names())}{hint}")
        return self._pieces[name]

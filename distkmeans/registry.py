"""Named pieces: one module per piece, imported when its name is first asked for."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from distkmeans import schema
from distkmeans.errors import InputError

Piece = TypeVar("Piece")
Maker = TypeVar("Maker", bound=Callable[..., Any])


class Registry(Generic[Piece]):
    """The pieces of one package under the names that a config uses.

    ``Registry("init", "distkmeans.init")`` finds ``plus_plus`` in ``distkmeans/init/plus_plus.py``, which registers
    its maker by decorating it with ``@registry.register("plus_plus")``. A new piece is a new file; a user's own module
    registers further names when it is imported. Nothing else can be reached by name.
    """

    def __init__(self, field: str, package: str) -> None:
        self.field = field
        self.package = package
        self._makers: dict[str, Callable[..., Piece]] = {}

    def register(self, name: str) -> Callable[[Maker], Maker]:
        """Decorator: make the maker (a class or function) known under ``name``."""

        def keep(maker: Maker) -> Maker:
            there = self._makers.get(name)
            if there is not None and _path(there) != _path(maker):
                raise InputError(f"{self.field}={name}: registered already, by {_path(there)}; choose another name")
            self._makers[name] = maker
            return maker

        return keep

    def build(self, name: str, options: Mapping[str, Any] | None = None, prefix: str | None = None) -> Piece:
        """The piece called ``name``, made with these options. Raises InputError, naming ``prefix`` + option.

        prefix: what options are called where the user gives them; the registry's field and a dot, unless told.
        """
        maker = self[name]
        arguments = schema.check(maker, options or {}, f"{self.field}." if prefix is None else prefix)
        try:
            return maker(**arguments)
        except (TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.field}={name}: {error}") from error

    def names(self) -> list[str]:
        """Every name that can be asked for, sorted."""
        for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        return sorted(self._makers)

    def known(self) -> dict[str, Callable[..., Piece]]:
        """What has been registered so far: makers by name."""
        return dict(self._makers)

    def name_of(self, target: str) -> str:
        """The name of the registered maker that a dotted path (a config's ``_target_``) leads to.

        A path is compared with where each registered maker says that it was defined; nothing is imported by it.
        Raises InputError for a path to anything else, whatever module it goes through.
        """
        self.names()
        for name, maker in self._makers.items():
            if target == _path(maker):
                return name
        raise InputError(
            f"{self.field}._target_={target}: not a registered piece; use {self.field}="
            f"{schema.listed(self.names(), 'or')}, or name the module that registers it: plugins=[...]"
        )

    def __getitem__(self, name: str) -> Callable[..., Piece]:
        """The maker called ``name``. Raises InputError, with the known names, where there is none."""
        if name not in self._makers and isinstance(name, str) and name.isidentifier():
            module = f"{self.package}.{name}"
            if importlib.util.find_spec(module) is not None:
                importlib.import_module(module)
        if not isinstance(name, str) or name not in self._makers:
            known = self.names()  # imports every module: one may register several names
            if isinstance(name, str) and name in self._makers:
                return self._makers[name]
            raise InputError(
                f"{self.field}={schema.written(name)}: unknown; expected {schema.listed(known, 'or')}"
                f"{schema.nearest(str(name), known)}"
            )
        return self._makers[name]


def _path(maker: Callable[..., Any]) -> str:
    return f"{maker.__module__}.{maker.__qualname__}"

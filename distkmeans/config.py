"""From a command line to settings, by Hydra. With ``overrides.py`` the only part that sees Hydra's objects."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override, QuotedString
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import GrammarParseError, KeyValidationError, OmegaConfBaseException

from distkmeans import overrides, schema
from distkmeans.errors import InputError, first_line
from distkmeans.settings import GROUPS, Common, flattened, import_plugins
from distkmeans.slurm import SlurmOptions
from distkmeans.sweep import Point

LAUNCHERS = ("basic", "slurm")


@dataclass(frozen=True)
class Request:
    """What a command line asks for.

    points: one, or those of a sweep. common: what all have in common. slurm: how to submit them, None for here.
    """

    points: list[Point]
    multirun: bool
    common: Common
    slurm: SlurmOptions | None

    @property
    def device(self) -> str:
        return self.common.run.device

    @property
    def ranks(self) -> int | None:
        """Ranks of the jobs that will be submitted; None for this job's own."""
        return self.slurm.nodes * self.slurm.tasks_per_node if self.slurm else None


class Arguments(argparse.ArgumentParser):
    """The flags, which are Hydra's. Raises InputError where argparse would end the process."""

    def __init__(self) -> None:
        super().__init__(prog="train.py", add_help=False, allow_abbrev=False)
        self.add_argument("overrides", nargs="*")
        self.add_argument("--help", "-h", action="store_true")
        self.add_argument("--version", action="store_true")
        self.add_argument("--multirun", "-m", action="store_true")
        self.add_argument("--config-name", "-cn", default="config")
        self.add_argument("--config-dir", "-cd")
        self.add_argument("--cfg", "-c", choices=["job"])

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see python train.py --help")


def asks_to_be_told(flags: argparse.Namespace) -> bool:
    """Whether the command line asks for information, and not for a run."""
    return bool(flags.help or flags.version or flags.cfg)


def tell(flags: argparse.Namespace, conf: Path) -> None:
    """Print what was asked for: the help, the version, or the configuration, of each point of a sweep."""
    if flags.help:
        from distkmeans.help import manual

        _import_plugins(overrides.parsed(flags.overrides))
        print(manual(conf))
    elif flags.version:
        import distkmeans

        print(f"distkmeans {distkmeans.__version__}")
    else:
        for point in read(flags, conf).points:
            if point.error:
                raise InputError(point.error)
            title = f"# {point.name}\n" if flags.multirun else ""
            print(title + OmegaConf.to_yaml(dict(point.settings)))


def read(flags: argparse.Namespace, conf: Path) -> Request:
    """Compose every point. Raises InputError for what is wrong with all of them, such as an unknown key."""
    given = overrides.parsed(flags.overrides)
    overrides.refuse_useless(given)
    plugins = _import_plugins(given)
    with _initialized(conf):
        composer = _Composer(flags.config_name, [*_search_path(flags.config_dir), *overrides.shared(given)], plugins)
        axes = overrides.axes(given)
        config = composer.first(axes)
        axes = overrides.axes_of_file((config.hydra.sweeper or {}).get("params") or {}, given) | axes
        if axes and not flags.multirun:
            key, values = next(iter(axes.items()))
            raise InputError(f"{key}={','.join(values)}: several values; add -m to run each, or quote a list: [...]")
        named = overrides.material(given) if flags.multirun and not axes else {}
        points = [composer.point(chosen, named) for chosen in overrides.combinations(axes)]
    common = Common.build(composer.settings(config))
    return Request(points, flags.multirun, common, _slurm(config, flags.multirun))


@contextlib.contextmanager
def _initialized(conf: Path) -> Iterator[None]:
    if not conf.is_dir():
        raise InputError(f"{conf}: no such directory; train.py needs its conf/ beside it")
    with initialize_config_dir(str(conf), version_base="1.3"):
        yield


def _search_path(folder: str | None) -> list[str]:
    if folder and not Path(folder).is_dir():
        raise InputError(f"--config-dir {folder}: no such directory")
    return [f"hydra.searchpath=[{Path(folder).absolute().as_uri()}]"] if folder else []


class _Composer:
    """Composes configurations that have the config name and the overrides of the command line in common."""

    def __init__(self, name: str, shared: list[str], plugins: list[str]) -> None:
        self.name, self.shared, self.plugins = name, shared, plugins

    def first(self, axes: Mapping[str, list[str]]) -> DictConfig:
        """The configuration of the first combination that has one. Raises InputError where none has."""
        failure: InputError | None = None
        for chosen in overrides.combinations(axes):
            try:
                return self.config(chosen)
            except InputError as error:
                failure = failure or error
        assert failure is not None
        raise failure

    def config(self, chosen: Mapping[str, str]) -> DictConfig:
        """Raises InputError, in one line."""
        extra = [f"{key}={value}" for key, value in chosen.items()]
        try:
            return compose(self.name, [*self.shared, *extra], return_hydra_config=True)
        except Exception as error:  # of every kind, for what a user's own file may hold
            raise InputError(self._told(error)) from error

    def point(self, chosen: Mapping[str, str], named: Mapping[str, str]) -> Point:
        """The point of a sweep at which these keys have these values. What is wrong with it goes along in it.

        named: the overrides that it is named by where it is the only one.
        """
        try:
            return Point(chosen or named, self.settings(self.config(chosen)))
        except InputError as error:
            if not chosen:
                raise
            return Point(chosen, {}, str(error))

    def settings(self, config: DictConfig) -> dict[str, Any]:
        """Hydra's part left out, interpolations resolved. Raises InputError for a value that is missing."""
        plain = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        try:
            settings = OmegaConf.to_container(plain, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise InputError(f"{error.full_key or 'configuration'}: {first_line(error)}") from error
        assert isinstance(settings, dict)
        if isinstance(settings.get("plugins"), str):
            raise InputError(f"plugins={settings['plugins']}: expected a list: plugins=[{settings['plugins']}]")
        if sorted(settings.get("plugins") or []) != sorted(self.plugins):
            raise InputError(
                f"plugins={settings.get('plugins')}: set by a file; modules are imported only where the command line"
                " names them: plugins=[...]"
            )
        return {str(key): value for key, value in settings.items()}

    def _told(self, error: Exception) -> str:
        """Hydra's error in one line, with the nearest name that there is."""
        text = str(error)
        if missing := re.search(r"Could not find '([^']+)'|Cannot find primary config '([^']+)'", text):
            return self._unknown_option(missing[1] or missing[2])
        if unknown := re.search(r"Could not (?:override|delete from config\.) '([^']+)'", text):
            return self._unknown_key(unknown[1])
        if twice := re.search(r"Multiple values for ([^ ]+)\.|already at '([^']+)'", text):
            key = twice[1] or twice[2]
            return f"{key}: has a value already; write {key}=... once, and without a +"
        return _cause(error)

    def _unknown_option(self, path: str) -> str:
        group, _, option = path.rpartition("/")
        if not group:
            return f"--config-name {path}: no such file in conf/"
        known = _options(group)
        if not known:
            groups = schema.listed(_groups(), "and")
            return f"{group}={option}: unknown group{schema.nearest(group, _groups())}; the groups are {groups}"
        return f"{group}={option}: unknown; expected {schema.listed(known, 'or')}{schema.nearest(option, known)}"

    def _unknown_key(self, key: str) -> str:
        """What is wrong with a key, among those of the configuration that the groups on the command line make."""
        config = compose(self.name)
        with contextlib.suppress(Exception):
            config = compose(self.name, [text for text in self.shared if text.partition("=")[0] in _groups()])
        known = [*flattened(OmegaConf.to_container(config)), *_groups()]
        if key in known:
            return f"{key}: cannot be taken away; set it to null"
        siblings = [name for name in known if name.rpartition(".")[0] == key.rpartition(".")[0]]
        listing = f"; the keys here are {schema.listed(siblings, 'and')}" if siblings else ""
        return f"{key}: unknown key{schema.nearest_key(key, known)}{listing}"


def _cause(error: BaseException) -> str:
    """What lies at the bottom of Hydra's error: a place in a file, or OmegaConf's own words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, yaml.MarkedYAMLError) and cause.problem_mark:
            return f"{cause.problem_mark.name}, line {cause.problem_mark.line + 1}: {cause.problem or 'no YAML'}"
        if isinstance(cause, (GrammarParseError, KeyValidationError)):
            return f"configuration: {first_line(cause)}"
        cause = cause.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return f"{text} {lines[1]}" if text.endswith(":") and len(lines) > 1 else text


def _import_plugins(given: Sequence[Override]) -> list[str]:
    """Import the modules that the command line names, and give what they register a configuration by signature."""
    named = [override.value() for override in given if override.key_or_group == "plugins"]
    if not named or named[-1] is None:
        return []
    modules = [name.text if isinstance(name, QuotedString) else str(name) for name in _as_list(named[-1])]
    before = {group: set(registry.names()) for group, registry in GROUPS.items()}
    import_plugins(modules)
    for group, registry in GROUPS.items():
        for name, maker in registry.known().items():
            if name not in before[group]:
                _store(group, name, maker)
    return modules


def _store(group: str, name: str, maker: Any) -> None:
    """A configuration for a piece of a user's own: its name, and its maker's parameters with their defaults."""
    options: dict[str, Any] = {"name": name}
    for key, parameter in inspect.signature(maker).parameters.items():
        options[key] = "???" if parameter.default is parameter.empty else parameter.default
    if group == "data":
        options |= {"weights": None, "ids": None, "truth": None}
    try:
        ConfigStore.instance().store(name, options, group)
    except OmegaConfBaseException as error:
        raise InputError(f"{group}={name}: a default that no file can hold: {first_line(error)}") from error


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _slurm(config: DictConfig, multirun: bool) -> SlurmOptions | None:
    name = schema.written(config.hydra.runtime.choices["hydra/launcher"])
    if name not in LAUNCHERS:
        raise InputError(f"hydra/launcher={name}: unknown; expected {schema.listed(LAUNCHERS, 'or')}")
    if name == "basic":
        return None
    if not multirun:
        raise InputError("hydra/launcher=slurm: submits the points of a sweep; add -m, also for a single one")
    options = OmegaConf.to_container(config.hydra.launcher, resolve=True)
    assert isinstance(options, dict)
    given = {str(key): value for key, value in options.items()}
    return SlurmOptions(**schema.check(SlurmOptions, given, "hydra.launcher."))


def _groups() -> list[str]:
    loader = GlobalHydra.instance().config_loader()
    return [group for group in loader.list_groups("") if group != "hydra"]


def _options(group: str) -> list[str]:
    return sorted(GlobalHydra.instance().config_loader().get_group_options(group, ObjectType.CONFIG))

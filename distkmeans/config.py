"""From a command line to settings, by Hydra. The only part of distkmeans that sees a Hydra configuration."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from distkmeans import schema
from distkmeans.errors import InputError
from distkmeans.settings import GROUPS, Common, flattened, import_plugins
from distkmeans.slurm import SlurmOptions
from distkmeans.sweep import Point

HYDRA_KEYS = ("hydra.launcher", "hydra/launcher", "hydra.sweeper.params", "hydra.searchpath")
"""The keys of Hydra's own that mean something here; everything else of Hydra's is refused rather than ignored."""
LAUNCHERS = ("basic", "slurm")
NOT_SWEPT = ("run", "sweep", "plugins", "dry_run", "hydra")
"""Keys that do not set one point of a sweep apart from another."""


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
        for flag in (["--hydra-help"], ["--resolve"]):
            self.add_argument(*flag, action="store_true", dest="hydra")
        for flag in (["--cfg", "-c"], ["--info", "-i"], ["--package", "-p"]):
            self.add_argument(*flag, dest="hydra", nargs="?", const=True)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see python train.py --help")


def asks_to_be_told(flags: argparse.Namespace) -> bool:
    """Whether the command line asks for information, and not for a run."""
    return bool(flags.help or flags.version or flags.hydra)


def tell(flags: argparse.Namespace, conf: Path) -> int:
    """Print what was asked for: the help, the version, or what Hydra tells of a configuration (``--cfg job``)."""
    if flags.help:
        from distkmeans.help import manual

        print(manual(conf))
    elif flags.version:
        import distkmeans

        print(f"distkmeans {distkmeans.__version__}")
    else:
        import hydra

        hydra.main(version_base="1.3", config_path=str(conf), config_name="config")(lambda config: None)()
    return 0


def read(flags: argparse.Namespace, conf: Path) -> Request:
    """Compose every point. Raises InputError for what is wrong with all of them, such as an unknown key."""
    overrides = _parsed(flags.overrides)
    _refuse_unused(overrides)
    plugins = _import_plugins(overrides)
    search = [f"hydra.searchpath=[{Path(flags.config_dir).absolute().as_uri()}]"] if flags.config_dir else []
    with _initialized(conf):
        composer = _Composer(flags.config_name, [*search, *_shared(overrides)], plugins)
        axes = _axes(overrides)
        config = composer.first(axes)
        axes = _axes_of_file(config, overrides) | axes
        if axes and not flags.multirun:
            key, values = next(iter(axes.items()))
            raise InputError(f"{key}={','.join(values)}: several values; add -m to run each, or quote a list: [...]")
        named = _material(overrides) if flags.multirun and not axes else {}
        points = [composer.point(chosen, named) for chosen in _combinations(axes)]
    common = Common.build(composer.settings(config))
    return Request(points, flags.multirun, common, _slurm(config, flags.multirun))


@contextlib.contextmanager
def _initialized(conf: Path) -> Iterator[None]:
    if not conf.is_dir():
        raise InputError(f"{conf}: no such directory; train.py needs its conf/ beside it")
    with initialize_config_dir(str(conf), version_base="1.3"):
        yield


class _Composer:
    """Composes configurations that have the config name and the overrides of the command line in common."""

    def __init__(self, name: str, shared: list[str], plugins: list[str]) -> None:
        self.name, self.shared, self.plugins = name, shared, plugins

    def first(self, axes: Mapping[str, list[str]]) -> DictConfig:
        """The configuration of the first combination that has one. Raises InputError where none has."""
        failure: InputError | None = None
        for chosen in _combinations(axes):
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
        except (HydraException, OmegaConfBaseException) as error:
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
            raise InputError(_first_line(error)) from error
        assert isinstance(settings, dict)
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
        return _first_line(error)

    def _unknown_option(self, path: str) -> str:
        group, _, option = path.rpartition("/")
        if not group:
            return f"--config-name {path}: no such file in conf/"
        known = _options(group)
        if not known:
            return f"{group}={option}: unknown group{schema.nearest(group, _groups())}; the groups are {_groups_told()}"
        return f"{group}={option}: unknown; expected {schema.listed(known, 'or')}{schema.nearest(option, known)}"

    def _unknown_key(self, key: str) -> str:
        """What is wrong with a key, among those of the configuration that the groups on the command line make."""
        config = compose(self.name)
        with contextlib.suppress(HydraException, OmegaConfBaseException):
            config = compose(self.name, [text for text in self.shared if text.partition("=")[0] in _groups()])
        known = [*flattened(OmegaConf.to_container(config)), *_groups()]
        siblings = [name for name in known if name.rpartition(".")[0] == key.rpartition(".")[0]]
        listing = f"; the keys here are {schema.listed(siblings, 'and')}" if siblings else ""
        return f"{key}: unknown key{schema.nearest_key(key, known)}{listing}"


def _parsed(texts: Sequence[str]) -> list[Override]:
    parser = OverridesParser.create()
    found = []
    for text in texts:
        try:
            found.append(parser.parse_override(text))
        except HydraException as error:
            if "=" not in text:
                raise InputError(f"{text}: expected KEY=VALUE; see python train.py --help") from error
            raise InputError(f"{text}: cannot be read ({_last_line(error)}); quote special characters") from error
    return found


def _refuse_unused(overrides: Sequence[Override]) -> None:
    for override in overrides:
        if override.key_or_group in GROUPS and override.value() is None:
            expected = schema.listed(GROUPS[override.key_or_group].names(), "or")
            raise InputError(f"{override.input_line}: expected {expected}")
        key = override.key_or_group
        if key.split("/")[0].split(".")[0] == "hydra" and not key.startswith(HYDRA_KEYS):
            raise InputError(f"{key}: has no effect here; of Hydra's own keys {schema.listed(HYDRA_KEYS, 'and')} do")


def _import_plugins(overrides: Sequence[Override]) -> list[str]:
    """Import the modules that the command line names, and give what they register a configuration by signature."""
    named = [override.value() for override in overrides if override.key_or_group == "plugins"]
    if not named or named[-1] is None:
        return []
    modules = [name.text if isinstance(name, QuotedString) else str(name) for name in _as_list(named[-1])]
    before = {group: set(registry.names()) for group, registry in GROUPS.items()}
    import_plugins(modules)
    for group, registry in GROUPS.items():
        for name, maker in registry.known().items():
            if name not in before[group]:
                ConfigStore.instance().store(name, _defaults(group, name, maker), group)
    return modules


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _defaults(group: str, name: str, maker: Any) -> dict[str, Any]:
    """A configuration for a piece of a user's own: its name, and its maker's parameters with their defaults."""
    options: dict[str, Any] = {"name": name}
    for key, parameter in inspect.signature(maker).parameters.items():
        options[key] = "???" if parameter.default is parameter.empty else parameter.default
    return {**options, "weights": None, "ids": None} if group == "data" else options


def _shared(overrides: Sequence[Override]) -> list[str]:
    """The overrides that all points have in common, as they were written."""
    return [str(override.input_line) for override in overrides if not override.is_sweep_override()]


def _combinations(axes: Mapping[str, list[str]]) -> Iterator[dict[str, str]]:
    return (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))


def _axes(overrides: Sequence[Override]) -> dict[str, list[str]]:
    """The keys with several values, in the order of the command line."""
    axes: dict[str, list[str]] = {}
    for override in overrides:
        if override.is_sweep_override():
            if not override.is_discrete_sweep():
                raise InputError(f"{override.input_line}: expected a list of values or a range; interval() has no end")
            key = override.get_key_element()
            if _root(override) in NOT_SWEPT:
                raise InputError(f"{override.input_line}: {key} is the same for all points; give it one value")
            axes[key] = list(dict.fromkeys(override.sweep_string_iterator()))
    return axes


def _axes_of_file(config: DictConfig, overrides: Sequence[Override]) -> dict[str, list[str]]:
    """The same of the configuration's hydra.sweeper.params, but for keys that the command line gives."""
    texts = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    given = {override.key_or_group for override in overrides}
    own = [override for override in _parsed(texts) if override.key_or_group not in given]
    single = {o.get_key_element(): [o.get_value_element_as_str()] for o in own if not o.is_sweep_override()}
    return single | _axes(own)


def _material(overrides: Sequence[Override]) -> dict[str, str]:
    """What a sweep of a single point is named by: the overrides that may set it apart from points to come."""
    return {
        override.get_key_element(): override.get_value_element_as_str()
        for override in overrides
        if _root(override) not in (*NOT_SWEPT, "report")
    }


def _root(override: Override) -> str:
    return re.split(r"[./@]", override.key_or_group)[0]


def _slurm(config: DictConfig, multirun: bool) -> SlurmOptions | None:
    name = str(config.hydra.runtime.choices["hydra/launcher"])
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


def _groups_told() -> str:
    return schema.listed(_groups(), "and")


def _options(group: str) -> list[str]:
    return sorted(GlobalHydra.instance().config_loader().get_group_options(group, ObjectType.CONFIG))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _last_line(error: Exception) -> str:
    return str(error.__cause__ or error).strip().splitlines()[-1]

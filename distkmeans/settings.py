"""A run's settings: the nested dict of a configuration, checked against the signatures that take it, and built."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from distkmeans import schema
from distkmeans.clustering import Plan, check_served
from distkmeans.data import Source, sources
from distkmeans.errors import InputError
from distkmeans.evaluate import AUTO, ScoreOptions, chosen
from distkmeans.init import inits
from distkmeans.metrics import Metric, metrics
from distkmeans.problem import Memory, Precision
from distkmeans.registry import Registry
from distkmeans.report.loggers import Logger, loggers
from distkmeans.schema import Range
from distkmeans.solvers import solvers
from distkmeans.transforms import Transform, transforms
from distkmeans.world import Device

GROUPS: dict[str, Registry[Any]] = {
    "data": sources,
    "transform": transforms,
    "init": inits,
    "solver": solvers,
    "metric": metrics,
}
"""The groups of a configuration whose options are registered pieces."""


@dataclass(frozen=True)
class General:
    """Keys of the top level. See conf/config.yaml."""

    k: Annotated[int, Range(1)]
    seed: int = 0
    n_init: Annotated[int, Range(1)] = 1
    precision: Precision = "exact"
    memory: Memory = "auto"
    evaluate: str | Sequence[str] = AUTO
    dry_run: bool = False
    plugins: Sequence[str] = ()


@dataclass(frozen=True)
class RunOptions:
    """Keys of ``run``."""

    dir: str | None = None
    device: Device = "auto"
    overwrite: bool = False


@dataclass(frozen=True)
class SweepOptions:
    """Keys of ``sweep``. part: ``I/N``."""

    part: str | None = None


@dataclass(frozen=True)
class ReportOptions:
    """Keys of ``report``. plots: draw pictures. html: write a page with them. sample: rows of which they are drawn.

    loggers: names of those that hear of the run, or mappings of a name and its options.
    """

    plots: bool = True
    html: bool = True
    sample: Annotated[int, Range(2, 100_000)] = 5000
    loggers: Sequence[Any] = ()


@dataclass(frozen=True)
class Companions:
    """Keys of ``data`` that every source has. weights, ids, truth: files with one entry per row."""

    weights: str | None = None
    ids: str | None = None
    truth: str | None = None


PLAIN = {"run": RunOptions, "scores": ScoreOptions, "sweep": SweepOptions, "report": ReportOptions}
"""The groups whose keys are options of the job itself."""


@dataclass(frozen=True)
class Common:
    """What the points of a sweep have in common, whatever else is right or wrong with them."""

    run: RunOptions
    sweep: SweepOptions
    dry_run: bool

    @staticmethod
    def build(given: Mapping[str, Any]) -> Common:
        """Raises InputError, naming the key."""
        run, sweep = (_plain(group, given.get(group, {})) for group in ("run", "sweep"))
        return Common(run, sweep, schema.check_value("dry_run", given.get("dry_run", False), bool))


@dataclass(frozen=True)
class Settings:
    """What a configuration names, built. ``source`` opens the data; ``given`` is what it was built from."""

    general: General
    run: RunOptions
    scores: ScoreOptions
    report: ReportOptions
    sweep: SweepOptions
    companions: Companions
    source: Callable[[], Source]
    transform: Transform
    metric: Metric
    plan: Plan
    loggers: Sequence[Logger]
    given: Mapping[str, Any]

    @staticmethod
    def build(given: Mapping[str, Any]) -> Settings:
        """Raises InputError, naming the key, before any data is read."""
        general = General(**schema.check(General, _top_level(given)))
        chosen(general.evaluate, truth=True)  # refuses a name that is unknown
        plain = {group: _plain(group, given.get(group, {})) for group in PLAIN}
        names = {group: named(registry, given.get(group)) for group, registry in GROUPS.items()}
        data_name, data = names["data"]
        companions: dict[str, Any] = {key: data.pop(key) for key in schema.hints_of(Companions) if key in data}
        data = schema.check(sources[data_name], data, "data.")
        built = {group: GROUPS[group].build(*names[group]) for group in GROUPS if group != "data"}
        plan = Plan(general.k, built["init"], built["solver"], general.n_init, general.seed)
        check_served(built["metric"], plan)
        return Settings(
            general,
            **plain,
            companions=Companions(**schema.check(Companions, companions, "data.")),
            source=lambda: sources.build(data_name, data),
            transform=built["transform"],
            metric=built["metric"],
            plan=plan,
            loggers=[loggers.build(*named(loggers, chosen)) for chosen in plain["report"].loggers],
            given=given,
        )

    @property
    def title(self) -> str:
        return f"{self.given['data']['name']}-k{self.general.k}-seed{self.general.seed}"

    @property
    def exact(self) -> bool:
        return self.general.precision == "exact"

    @property
    def frugal(self) -> bool:
        return self.general.memory == "low"


def _top_level(given: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of no group. A group's name is not one of them, so that an unknown key is compared with groups too."""
    rest = {key: value for key, value in given.items() if key not in GROUPS and key not in PLAIN}
    known = [*schema.hints_of(General), *GROUPS, *PLAIN]
    for key in rest:
        if key not in known:
            raise InputError(
                f"{key}: unknown key{schema.nearest_key(key, known)}; the keys here are {schema.listed(known, 'and')}"
            )
    return rest


def _plain(group: str, options: Any) -> Any:
    if not isinstance(options, Mapping):
        raise InputError(f"{group}={schema.written(options)}: expected its keys, such as {group}.{_first(group)}=...")
    return PLAIN[group](**schema.check(PLAIN[group], options, f"{group}."))


def _first(group: str) -> str:
    return next(iter(schema.hints_of(PLAIN[group])))


def named(registry: Registry[Any], options: Any) -> tuple[str, dict[str, Any]]:
    """The name of the piece that a group's options ask for, by ``name`` or by ``_target_``, and the other options."""
    if isinstance(options, str):
        options = {"name": options}
    if not isinstance(options, Mapping) or not {"name", "_target_"} & options.keys():
        raise InputError(
            f"{registry.field}={schema.written(options)}: expected {schema.listed(registry.names(), 'or')}"
        )
    rest = {key: value for key, value in options.items() if key not in ("name", "_target_")}
    if "_target_" in options:
        return registry.name_of(str(options["_target_"])), rest
    registry[options["name"]]  # refuses a name that is unknown
    return options["name"], rest


def import_plugins(modules: Sequence[str]) -> None:
    """Import a user's own modules, for what they register. Raises InputError."""
    if modules and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for module in modules:
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:  # whatever a user's own module raises
            raise InputError(f"plugins=[{module}]: cannot be imported ({type(error).__name__}: {error})") from error


def flattened(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as {"run.dir": value}."""
    if not isinstance(settings, Mapping):
        return {prefix: settings}
    return {
        name: value
        for key, inner in settings.items()
        for name, value in flattened(inner, f"{prefix}.{key}" if prefix else str(key)).items()
    }

"""The overrides of a command line, in Hydra's grammar: which are common to all points of a sweep, and which vary."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from distkmeans import schema
from distkmeans.errors import InputError, first_line
from distkmeans.settings import GROUPS

HYDRA_KEYS = ("hydra.launcher", "hydra/launcher", "hydra.sweeper.params", "hydra.searchpath")
"""The keys of Hydra's own that mean something here; everything else of Hydra's is refused rather than ignored."""
NOT_SWEPT = ("run", "sweep", "plugins", "dry_run", "hydra")
"""Keys that do not set one point of a sweep apart from another."""
UNNAMED = (*NOT_SWEPT, "evaluate", "scores", "report")
"""Keys that say nothing of what a point finds."""


def parsed(texts: Iterable[str]) -> list[Override]:
    """The overrides; of several for one key the last. Raises InputError for what is none."""
    found: dict[str, Override] = {}
    for text in texts:
        override = _parsed(text)
        found.pop(override.key_or_group, None)
        found[override.key_or_group] = override
    return list(found.values())


def refuse_useless(overrides: Sequence[Override]) -> None:
    """Raise InputError for what Hydra would take and nothing here would heed."""
    for override in overrides:
        key = override.key_or_group
        if key == "hydra.launcher":
            raise InputError(f"{override.input_line}: a launcher is chosen with a slash: hydra/launcher=...")
        if root(override) == "hydra" and not key.startswith(HYDRA_KEYS):
            raise InputError(f"{key}: has no effect here; of Hydra's own keys {schema.listed(HYDRA_KEYS, 'and')} do")
        if key == "hydra/launcher" and not _is_text(override.value()):
            raise InputError(f"{override.input_line}: expected basic or slurm")
        if key in GROUPS and not (override.is_sweep_override() or override.is_delete() or _is_text(override.value())):
            raise InputError(f"{override.input_line}: expected {schema.listed(GROUPS[key].names(), 'or')}")


def shared(overrides: Sequence[Override]) -> list[str]:
    """The overrides that all points have in common, as they were written. experiment=null is no experiment."""
    return [
        str(override.input_line)
        for override in overrides
        if not override.is_sweep_override() and not (override.key_or_group == "experiment" and override.value() is None)
    ]


def axes(overrides: Sequence[Override]) -> dict[str, list[str]]:
    """The keys with several values, in the order of the command line. Raises InputError for keys that cannot vary."""
    return {
        str(override.get_key_element()): _values(override) for override in overrides if override.is_sweep_override()
    }


def axes_of_file(params: Mapping[str, Any], overrides: Sequence[Override]) -> dict[str, list[str]]:
    """The same of a configuration's hydra.sweeper.params, but for keys that the command line gives."""
    given = {override.key_or_group for override in overrides}
    own = [
        found for found in parsed(f"{key}={value}" for key, value in params.items()) if found.key_or_group not in given
    ]
    for override in own:
        if root(override) in NOT_SWEPT:
            raise InputError(f"hydra.sweeper.params.{override.key_or_group}: the same for all points; set it directly")
    single = {o.get_key_element(): [o.get_value_element_as_str()] for o in own if not o.is_sweep_override()}
    return single | axes(own)


def combinations(values: Mapping[str, list[str]]) -> Iterator[dict[str, str]]:
    """Every choice of one value per key; the last key varies fastest."""
    return (dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values()))


def material(overrides: Sequence[Override]) -> dict[str, str]:
    """What a sweep of a single point is named by: the overrides that may set it apart from points to come."""
    return {
        str(override.get_key_element()): override.get_value_element_as_str()
        for override in overrides
        if root(override) not in UNNAMED
    }


def nested(texts: Iterable[str]) -> dict[str, Any]:
    """Settings without a configuration beneath: ``{"data": {"name": "npy", "path": "x.npy"}}``. Raises InputError."""
    config = OmegaConf.create()
    for override in parsed(texts):
        key = override.key_or_group
        if override.is_sweep_override():
            raise InputError(f"{override.input_line}: expected one value; quote a text with commas, twice")
        if override.is_delete():
            raise InputError(f"{override.input_line}: there is nothing to take away; leave the key out")
        named = key in GROUPS and _is_text(override.value())
        try:
            OmegaConf.update(config, f"{key}.name" if named else key, override.value())
        except (OmegaConfBaseException, ValueError) as error:
            raise InputError(f"{override.input_line}: {first_line(error)}") from error
    try:
        settings = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(f"{error.full_key or 'configuration'}: {first_line(error)}") from error
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def root(override: Override) -> str:
    """The first part of an override's key: solver of solver.tol."""
    return re.split(r"[./@]", override.key_or_group)[0]


def _parsed(text: str) -> Override:
    try:
        if text.startswith("="):
            raise ValueError("no key")
        return OverridesParser.create().parse_override(text)
    except Exception as error:  # the parser's own slips included
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise InputError(f"{text}: expected KEY=VALUE; see python train.py --help") from error
        quoted = f"""{key}="'{value}'" """.rstrip()
        raise InputError(f"{text}: cannot be read; quote a value with special characters, twice: {quoted}") from error


def _values(override: Override) -> list[str]:
    if not override.is_discrete_sweep():
        raise InputError(f"{override.input_line}: expected a list of values or a range; interval() has no end")
    if root(override) in NOT_SWEPT:
        key = override.key_or_group
        raise InputError(f"{override.input_line}: {key} is the same for all points; give it one value")
    override.config_loader = GlobalHydra.instance().config_loader()  # glob() looks for options there
    try:
        values = list(dict.fromkeys(override.sweep_string_iterator()))
    except (HydraException, ValueError) as error:
        raise InputError(f"{override.input_line}: {first_line(error)}") from error
    if not values:
        raise InputError(f"{override.input_line}: holds no value")
    return values


def _is_text(value: Any) -> bool:
    return isinstance(value, (str, QuotedString))

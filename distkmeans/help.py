"""``python train.py --help``: every key with its default, unit and range, as the files in conf/ say them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from distkmeans import schema
from distkmeans.settings import GROUPS

USAGE = """\
k-means for embeddings at any scale: exact, and bit-identical on 1 rank or 1,000.

  python train.py [KEY=VALUE ...]                                         one run
  torchrun --standalone --nproc-per-node=4 train.py [KEY=VALUE ...]       the same, on four ranks
  python train.py -m k=64,128 init=plus_plus,parallel [KEY=VALUE ...]     a sweep: a run for each combination
  python train.py dry_run=true [KEY=VALUE ...]                            check and estimate; run nothing
  python train.py -m hydra/launcher=slurm k=64,128 [KEY=VALUE ...]        a sweep, each run a Slurm job

Flags
  -m, --multirun          a run for each combination of the values that are separated by commas
  -cd, --config-dir DIR   a folder with groups of your own, such as DIR/experiment/mine.yaml
  -cn, --config-name NAME another file of conf/ than config.yaml to begin with
  --cfg job               print the configuration that the overrides make, and run nothing
  --version, -h, --help   print the version; print this

Values are Hydra's: null, true, 1e-4, text, [a,b], and "quoted" where there are spaces or commas.
"""
INDENT = "  "
KEY = re.compile(r"^(?P<indent> *)(?P<key>\w+): *(?P<value>[^#]*?) *(?:# *(?P<comment>.*))?$")
LAST_GROUPS = ("experiment", "hydra/launcher")
NOT_A_KEY = ("name", "defaults", "hydra")


def manual(conf: Path) -> str:
    """The usage, the keys of config.yaml, and every option of every group, from the files in ``conf``.

    What plugins have registered has no file there: it is told by its signature.
    """
    groups = sorted({str(path.parent.relative_to(conf)) for path in conf.rglob("*.yaml")} - {"."})
    groups = [*(group for group in groups if group not in LAST_GROUPS), *LAST_GROUPS]
    chosen = _chosen((conf / "config.yaml").read_text(encoding="utf-8"))
    parts = [USAGE, "Keys", *_keys(conf / "config.yaml", ""), ""]
    for group in groups:
        default = f" (default: {chosen[group]})" if chosen.get(group) not in (None, "null") else ""
        parts.append(f"{group}=NAME{default}")
        parts += [line for path in sorted((conf / group).glob("*.yaml")) for line in _option(path, group)]
        parts += [line for maker in _plugins(group) for line in registered(group, *maker)]
        parts.append("")
    return "\n".join(parts).rstrip()


def _chosen(text: str) -> dict[str, str]:
    """The options that config.yaml's defaults list names."""
    return dict(re.findall(r"^ +- (\w+): (\w+)", text, re.MULTILINE))


def _option(path: Path, group: str) -> list[str]:
    """An option of a group: its name, what it is, and its keys."""
    text = path.read_text(encoding="utf-8")
    about = " ".join(re.findall(r"^# (?!@package)(.*)$", text.split("\ndefaults:")[0], re.MULTILINE))
    keys = [] if group == "experiment" else _keys(path, f"{group.replace('/', '.')}.")
    return [f"{INDENT}{path.stem:<12} {about}", *(INDENT + line for line in keys)]


def _plugins(group: str) -> list[tuple[str, Any]]:
    """Names and makers that have been registered from outside distkmeans."""
    known = GROUPS[group].known() if group in GROUPS else {}
    return [(name, maker) for name, maker in sorted(known.items()) if not maker.__module__.startswith("distkmeans.")]


def registered(group: str, name: str, maker: Any) -> list[str]:
    """An option that a plugin has registered: the first line of its docstring, and its parameters."""
    hints = schema.hints_of(maker)
    lines = [f"{INDENT}{name:<12} {(maker.__doc__ or '').strip().split(chr(10))[0]}"]
    for key, parameter in inspect.signature(maker).parameters.items():
        default = "???" if parameter.default is parameter.empty else schema.written(parameter.default)
        lines.append(f"{2 * INDENT}{group}.{key}={default}   {schema.described(hints.get(key, object))}")
    return lines


def _keys(path: Path, prefix: str) -> list[str]:
    """A line per key of a file: ``data.path=null   FILE, GLOB or DIRECTORY``."""
    found: list[tuple[str, str]] = []
    folder = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        match = KEY.match(line)
        if match is None:
            continue
        if not match["indent"]:
            folder = "" if match["value"] else match["key"]
        if match["value"] and match["key"] not in NOT_A_KEY and folder not in NOT_A_KEY:
            key = f"{folder}.{match['key']}" if match["indent"] else match["key"]
            found.append((f"{prefix}{key}={match['value']}", match["comment"] or ""))
    width = max((len(key) for key, _ in found), default=0)
    return [f"{INDENT}{key:<{width}}   {comment}" for key, comment in found]

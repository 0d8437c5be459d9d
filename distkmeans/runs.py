"""``python -m distkmeans.runs``: the runs in folders, or two of them compared, by what is in their directories."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from distkmeans import cli
from distkmeans.errors import InputError
from distkmeans.report.comparison import Comparison
from distkmeans.report.history import Run, find, read
from distkmeans.report.listing import as_json, as_table, ordered, plain
from distkmeans.report.run_dir import SWEEP
from distkmeans.settings import flattened

USAGE = """\
The runs in folders, those of sweeps too; two runs beside each other. Only run directories are read.

  python -m distkmeans.runs [FOLDER ...]     list them; default: runs
  python -m distkmeans.runs compare A B      settings that differ, results, and how far the labels agree (ARI)

Flags
  --sort KEY   name, data, k, inertia, seconds, status, rows, iterations, or a score
  --json       for programs

seconds are those of seeding and solving."""


class Arguments(argparse.ArgumentParser):
    """Raises InputError where argparse would end the process."""

    def __init__(self) -> None:
        super().__init__(prog="python -m distkmeans.runs", add_help=False, allow_abbrev=False)
        self.add_argument("folders", nargs="*")
        self.add_argument("--sort", metavar="KEY")
        self.add_argument("--json", action="store_true")
        self.add_argument("--help", "-h", action="store_true")

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str]) -> int:
    """Print what is asked for; the exit status."""
    return cli.answered(lambda: _main(arguments))


def _main(arguments: Sequence[str]) -> int:
    flags = Arguments().parse_intermixed_args(list(arguments))
    if flags.help:
        print(USAGE)
    elif flags.folders[:1] == ["compare"]:
        if len(flags.folders) != 3:
            raise InputError("compare: expected two run directories: compare A B")
        if flags.sort:
            raise InputError(f"--sort {flags.sort}: is for lists of runs; leave it out beside compare")
        print(_compared(flags.folders[1], flags.folders[2], flags.json))
    else:
        print(_listed(flags.folders, flags.sort, flags.json))
    sys.stdout.flush()
    return 0


def _listed(folders: Sequence[str], key: str | None, is_json: bool) -> str:
    places = [Path(folder) for folder in folders or ["runs"]]
    for place in places:
        if not place.is_dir():
            raise InputError(f"{place}: {'a file' if place.exists() else 'no such directory'}; name folders with runs")
    runs = ordered([run for place in places for run in find(place)], key)
    if is_json:
        return as_json(runs)
    return as_table(runs) if runs else f"no runs in {', '.join(map(str, places))}"


def _compared(first: str, second: str, is_json: bool) -> str:
    one, other = (_run(name) for name in (first, second))
    found = Comparison.of(one, other, (flattened(one.settings), flattened(other.settings)))
    return json.dumps(plain(found.as_dict()), indent=2) if is_json else found.text()


def _run(name: str) -> Run:
    """Raises InputError for what is no directory of a run."""
    path = Path(name)
    if not path.is_dir():
        raise InputError(f"{name}: {'a file' if path.exists() else 'no such directory'}; expected a run's directory")
    if (path / SWEEP).exists():
        raise InputError(f"{name}: holds a sweep; name one of its points: {name}/...")
    run = read(path)
    if not run.settings and not run.summary and run.status == "damaged":
        raise InputError(f"{name}: holds no run that can be read ({run.problem})")
    return run


if __name__ == "__main__":
    cli.leave(main(sys.argv[1:]))

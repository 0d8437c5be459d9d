"""``python -m distkmeans.apply``, alone or under torchrun: a model's labels and distances for the rows of new files."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distkmeans import cli, overrides, schema
from distkmeans.application import Application, Wanted
from distkmeans.data import sources
from distkmeans.errors import InputError
from distkmeans.help import registered
from distkmeans.launcher import is_rank_zero
from distkmeans.metrics import metrics
from distkmeans.model import Model
from distkmeans.saved import of_file, of_run
from distkmeans.settings import import_plugins, named
from distkmeans.world import Device, World

USAGE = """\
Labels and squared distances of new rows, by the transform and the centroids of a finished run.

  python -m distkmeans.apply run.dir=runs/first data=npy data.path=new.npy out.dir=labelled
  torchrun --standalone --nproc-per-node=4 -m distkmeans.apply run.dir=... data=npy data.path='new/*.npy' out.dir=...
  python -m distkmeans.apply centroids=centroids.npy metric=cosine data=npy data.path=new.npy out.dir=labelled

Keys
  run.dir=DIR          a finished run
  centroids=FILE       instead of it, npy or safetensors: centroids (K, D) that another program has written
  metric=NAME          of centroids from a file: euclidean, or another that runs can have, such as cosine
  out.dir=DIR          labels/ and distances/, one part per rank, in row order, and apply.json
  out.overwrite=true   replace what an earlier apply left there
  run.device=auto      auto, cpu or cuda
  data.ids=FILE        npy, or text with a line per row; the parts are then parquet, with the columns id and label
  plugins=[MODULE]     your own modules, imported for what they register

data=NAME"""


@dataclass(frozen=True)
class RunKeys:
    """Keys of ``run``."""

    dir: str | None = None
    device: Device = "auto"


@dataclass(frozen=True)
class OutKeys:
    """Keys of ``out``."""

    dir: str
    overwrite: bool = False


@dataclass(frozen=True)
class Keys:
    """Keys of the top level; those of groups are checked by what takes them."""

    run: Any = field(default_factory=dict)
    out: Any = field(default_factory=dict)
    data: Any = None
    centroids: str | None = None
    metric: Any = None
    plugins: Sequence[str] = ()


@dataclass(frozen=True)
class Request:
    """A command line, checked but for what only files tell. given: as it was written.

    data, metric: their names and options.
    """

    given: Mapping[str, Any]
    run: RunKeys
    out: OutKeys
    centroids: str | None
    metric: tuple[str, dict[str, Any]]
    data: tuple[str, dict[str, Any]]
    ids: str | None

    @staticmethod
    def build(given: Mapping[str, Any]) -> Request:
        """Raises InputError, naming the key."""
        keys = Keys(**schema.check(Keys, given))
        run = RunKeys(**_checked(RunKeys, "run", keys.run))
        out = OutKeys(**_checked(OutKeys, "out", keys.out))
        _refuse_models(run.dir, keys)
        name, options = named(sources, keys.data)
        ids = schema.check_value("data.ids", options.pop("ids", None), str | None)
        for key in ("weights", "truth"):
            if options.pop(key, None) is not None:
                raise InputError(f"data.{key}: labels and distances do not depend on it; leave it out")
        data = name, schema.check(sources[name], options, "data.")
        name, options = named(metrics, "euclidean" if keys.metric is None else keys.metric)
        metric = name, schema.check(metrics[name], options, "metric.")
        return Request(given, run, out, keys.centroids, metric, data, ids)

    @property
    def device(self) -> str:
        return self.run.device

    def wanted(self) -> Wanted:
        """The same in terms of what is to be done."""
        return Wanted(
            model=self._model,
            title=self._title,
            source=lambda: sources.build(*self.data),
            ids=self.ids,
            out=self.out.dir,
            overwrite=self.out.overwrite,
            asked=self.given,
        )

    @property
    def _title(self) -> str:
        return f"run.dir={self.run.dir}" if self.centroids is None else f"centroids={self.centroids}"

    def _model(self) -> Model:
        if self.centroids is None:
            return of_run(str(self.run.dir), self._title)
        return of_file(self.centroids, metrics.build(*self.metric), self._title)


def _refuse_models(run_dir: str | None, keys: Keys) -> None:
    """Raise InputError unless there is one model, and a metric only where it has none of its own."""
    if run_dir is None and keys.centroids is None:
        raise InputError("run.dir: not given; expected a finished run, or centroids=FILE instead of one")
    if run_dir is not None and keys.centroids is not None:
        raise InputError(f"centroids={keys.centroids}: given beside run.dir={run_dir}; leave one of them out")
    if run_dir is not None and keys.metric is not None:
        raise InputError(f"metric: the run in run.dir={run_dir} has its own; leave it out")


def _checked(taker: type, group: str, options: Any) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise InputError(f"{group}={schema.written(options)}: expected its keys, such as {group}.dir=...")
    return schema.check(taker, options, f"{group}.")


def read(arguments: Sequence[str]) -> Request | None:
    """What the command line asks for; None where that is help, which is printed. Raises InputError."""
    flags = [text for text in arguments if text.startswith("-")]
    if unknown := [flag for flag in flags if flag not in ("-h", "--help")]:
        raise InputError(f"{unknown[0]}: unknown flag; see python -m distkmeans.apply --help")
    given = overrides.nested(text for text in arguments if text not in flags)
    import_plugins(schema.check_value("plugins", given.get("plugins", []), Sequence[str]))
    if not flags:
        return Request.build(given)
    if is_rank_zero():
        print(
            "\n".join([USAGE, *(line for name in sources.names() for line in registered("data", name, sources[name]))])
        )
    return None


def work(world: World, request: Request) -> int:
    """Apply, where all ranks are asked for the same. A collective."""
    world.agree("the command", json.dumps(request.given, sort_keys=True, default=str), "start all ranks alike")
    Application.open(world, request.wanted()).run()
    return 0


def main(arguments: Sequence[str]) -> int:
    """The exit status, on every rank."""
    return cli.answered(lambda: cli.together(lambda: read(arguments), work))


if __name__ == "__main__":
    cli.leave(main(sys.argv[1:]))

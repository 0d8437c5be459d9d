"""hydra/launcher=slurm: each point of a sweep a Slurm job of its own, of any number of nodes, by submitit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from distkmeans.schema import Range
from distkmeans.sweep import Sweep


@dataclass(frozen=True)
class SlurmOptions:
    """Keys of ``hydra.launcher`` for slurm. See conf/hydra/launcher/slurm.yaml."""

    nodes: Annotated[int, Range(1)] = 1
    tasks_per_node: Annotated[int, Range(1)] = 1
    cpus_per_task: Annotated[int, Range(1)] | None = None
    gpus_per_node: Annotated[int, Range(0)] | None = None
    mem_gb: Annotated[float, Range(above=0)] | None = None
    timeout_min: Annotated[int, Range(1)] = 60
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    array_parallelism: Annotated[int, Range(1)] = 256
    setup: list[str] = field(default_factory=list)
    additional_parameters: Mapping[str, Any] = field(default_factory=dict)


def submit(sweep: Sweep, options: SlurmOptions) -> int:
    raise AssertionError

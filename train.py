"""k-means as one job: ``python train.py``, ``torchrun ... train.py`` or ``srun ... train.py``, with Hydra overrides."""

import os
import sys

import hydra
from omegaconf import DictConfig

from distkmeans import job


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    status = job.main(config)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # everything is written, and taking down a process group must not keep a rank


if __name__ == "__main__":
    main()

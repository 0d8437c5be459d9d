"""k-means as one job: ``python train.py``, ``torchrun ... train.py`` or ``srun ... train.py``, with Hydra overrides."""

import sys

import hydra
from omegaconf import DictConfig

from distkmeans import job


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    sys.exit(job.main(config))


if __name__ == "__main__":
    main()

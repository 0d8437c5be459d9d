"""k-means as one job: ``python train.py``, ``torchrun ... train.py`` or ``srun ... train.py``, with Hydra overrides."""

import sys
from pathlib import Path

from distkmeans import cli

if __name__ == "__main__":
    cli.leave(cli.main(sys.argv[1:], Path(__file__).resolve().parent / "conf"))

"""``python -m distkmeans.native``: build the compiled kernels in place, for a checkout that was not installed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

FLAGS = ["-O3", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno", "-shared", "-fPIC", "-pthread"]
"""As in pyproject.toml. Contraction would change the bits of fixed-order arithmetic."""


def main() -> int:
    """Compile beside the sources with $CC, cc, gcc or clang."""
    here = Path(__file__).parent
    asked = os.environ.get("CC")
    compiler = shlex.split(asked) if asked else next(([c] for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    if compiler is None:
        print("distkmeans.native: no C compiler (cc, gcc or clang); set CC, or run without: torch does the work")
        return 1
    target = here / f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}"  # what an installation in place builds
    new = target.with_suffix(f".{os.getpid()}")
    result = subprocess.run([*compiler, *FLAGS, str(here / "kernels.c"), "-o", str(new), "-lm"], check=False)
    if result.returncode == 0:
        new.replace(target)  # whole: a process that has the old one loaded keeps it
        print(f"built {target.name}")
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())

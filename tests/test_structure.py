"""The rooms: a floor imports only floors below it, and torch.distributed is named in one file."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

FLOORS = [
    {"errors", "launcher", "roll_call", "schema", "registry", "world"},
    {"native"},
    {"exact"},
    {"nn"},
    {"data", "transforms", "metrics", "kernels", "losses"},
    {"problem", "stats"},
    {"init"},
    {"solvers"},
    {"evaluate"},
    {"report"},
    {"clustering"},
    {"model", "saved", "assignment", "to_sklearn", "loader", "api", "scoring", "estimator", "__init__"},
    {"settings"},
    {"reading", "cost", "cost_model"},
    {"job", "application"},
    {"sweep"},
    {"dry_run", "slurm"},
    {"config", "overrides", "help"},
    {"cli"},
    {"apply", "runs"},
]


def floor(room: str) -> int:
    return next(index for index, rooms in enumerate(FLOORS) if room in rooms)


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "distkmeans").parts[0].removesuffix(".py")


def test_rooms_look_down_only() -> None:
    for path in (ROOT / "distkmeans").rglob("*.py"):
        for name in imports(path):
            if name.startswith("distkmeans."):
                assert floor(name.split(".")[1]) <= floor(room_of(path)), f"{path} imports {name}"


def test_only_world_names_torch_distributed() -> None:
    """Of the job; what goes into models takes a process group, and names it in one file of its own."""
    folder = ROOT / "distkmeans"
    named = {str(path.relative_to(folder)) for path in folder.rglob("*.py") if "torch.distributed" in imports(path)}
    assert named == {"world.py", "nn/batch.py"}


def test_what_goes_into_models_knows_nothing_of_the_job() -> None:
    seen = {name for path in (ROOT / "distkmeans" / "nn").glob("*.py") for name in imports(path)}
    rooms = {name.split(".")[1] for name in seen if name.startswith("distkmeans.")}
    assert rooms == {"errors", "exact", "nn", "schema"}


def frameworks(path: Path) -> set[str]:
    return {"omegaconf", "hydra"} & {name.split(".")[0] for name in imports(path)}


def test_only_the_command_line_sees_a_configuration() -> None:
    seen = {path.name for path in (ROOT / "distkmeans").rglob("*.py") if frameworks(path)}
    assert seen == {"config.py", "overrides.py", "run_dir.py"}


def test_importing_is_light() -> None:
    code = "import sys, distkmeans; print([m for m in ('sklearn', 'matplotlib', 'hydra') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"

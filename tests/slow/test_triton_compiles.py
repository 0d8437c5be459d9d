"""The Triton kernels pass the compiler for GPUs, which the interpreter does not show: types, shapes, shared memory.

Launches are recorded from the classes that make them, and compiled for devices that need not be there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytest.importorskip("triton", reason="triton is not installed: pip install triton, or a torch for CUDA")
pytestmark = pytest.mark.slow

LAUNCHES = """
import json, sys
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

TYPES = {torch.float32: "fp32", torch.float64: "fp64", torch.float16: "fp16", torch.bfloat16: "bf16", torch.bool: "i1",
         torch.int8: "i8", torch.uint8: "u8", torch.int32: "i32", torch.int64: "i64"}
ARCHES, found = [int(v) for v in sys.argv[1:]], []

def typed(name, value):
    if isinstance(value, torch.Tensor):
        return "*" + TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else "i64" if name == "row_stride" else "i32"

def record(self, *arguments, grid, warmup, **options):
    constants = {k: options.pop(k) for k in list(options) if k in self.arg_names}
    signature, aligned = {}, {}
    for place, (name, value) in enumerate(zip(self.arg_names, arguments)):
        if isinstance(value, int) and value == 1:
            constants[name] = 1  # as the launcher specialises it
            continue
        signature[name] = typed(name, value)
        if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
            aligned[(place,)] = [["tt.divisibility", 16]]
    places = {(self.arg_names.index(k),): v for k, v in constants.items()}
    signature = {k: signature.get(k, "constexpr") for k in self.arg_names}
    for arch in ARCHES:
        source = ASTSource(fn=self, signature=signature, constexprs=places, attrs=aligned)
        code = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
        found.append([self.__name__, arch, code.metadata.shared, "tf32" in code.asm["ptx"], "mma" in code.asm["ptx"]])

JITFunction.run = record
from distkmeans.exact.fixed_point import Grid
from distkmeans.kernels.triton import Fused
from distkmeans.kernels.triton_head import axes_of, principal_axes
from distkmeans.kernels.triton_runs import Runs
from distkmeans.kernels.triton_sieve import Sieve

for dtype, dims, width, fine in (
    (torch.float32, 64, 128, False), (torch.bfloat16, 384, 128, True), (torch.float16, 128, 384, False),
    (torch.uint8, 7, 256, False),
):
    rows = torch.arange(64 * dims).view(64, dims).sin().mul(100).abs().to(dtype)
    centroids = rows[:48].float()
    kernel, labels = Fused(rows, centroids, 100.0, exact=False), torch.zeros(64, dtype=torch.int32)
    kernel.assign(centroids, labels)
    kernel.sieve = Sieve(rows, axes_of(rows.double(), principal_axes(rows.double()), width, fine), 48)
    kernel.last = None
    kernel.assign(centroids, labels)
    grid = Grid.spanning(torch.full((dims + 1,), 7), torch.full((dims + 1,), -40), 64)
    sums = torch.zeros(48, grid.limbs, dims + 1, dtype=torch.int64), torch.zeros(48, dtype=torch.int64)
    Runs(rows, torch.ones(64), grid).tally(None, labels, *sums)
print(json.dumps(found))
"""


def test_every_launch_compiles_and_fits_its_device(tmp_path: object) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_DEFAULT_FP_FUSION": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHES, "86"], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert {name for name, *_ in found} == {"nearest", "guess", "aim", "sieve", "decide", "add_runs"}
    for name, arch, shared, tf32, on_tensor_cores in found:
        assert shared <= 99 * 1024, f"{name} for sm_{arch}: {shared} bytes of shared memory"
        assert not tf32, f"{name}: the bound does not hold for TF32"
        assert on_tensor_cores or name not in ("guess", "sieve"), f"{name}: int8 products without tensor cores"

"""All notebooks, strict, as other processors compute them and on other numbers of threads. -> make test-processors [RUNS]

In every run each tolerance of a notebook is a quarter of what it says: there must be that much room. Only a made-up processor,
which rounds several times as coarsely as a real one, may use all of it.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import utils
from utils import checks, start

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

ROOT = Path(__file__).parents[1]
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
RUNS = {
    "as it is": {},
    "in CI": {"CI": "true"},
    "no vectors": {"ATEN_CPU_CAPABILITY": "default"},
    "AVX2": AVX2,
    "SSE4": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "8 threads": {"OMP_NUM_THREADS": "8"},
    "rounds otherwise": {"ROUNDS_OTHERWISE": "1"},
    "rounds otherwise, in CI": {"ROUNDS_OTHERWISE": "2", "CI": "true"},
}
# Operations whose last digits hang on the order of additions, or on how a function is approximated.
INEXACT = "mm addmm bmm baddbmm convolution native_layer_norm _softmax _log_softmax gelu tanh exp sigmoid sum mean "
INEXACT += "linalg_vector_norm upsample_bicubic2d log_sigmoid_forward _scaled_dot_product_flash_attention_for_cpu"
STARTUP = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests import processors; processors.prepare_kernel()"


class RoundsOtherwise(TorchDispatchMode):
    """A made-up processor: results move by a few units in the last place, equal results equally. `seed`: in which way."""

    def __init__(self, seed):
        super().__init__()
        self.phase = float(seed)

    def move(self, result):
        if result.dtype != torch.float32:
            return result
        moved = result + result * 5e-7 * torch.sin(result * 1e7 + self.phase)
        return torch.where(result.abs() < 1e30, moved, result)  # what hides a token in a mask is lower still

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        inexact = function.overloadpacket.__name__ in INEXACT.split()
        return tree_map_only(torch.Tensor, self.move, result) if inexact else result


def prepare_kernel():
    """Called in each kernel before its first cell."""
    whole, seed = checks.compare, os.environ.get("ROUNDS_OTHERWISE")

    def with_room(name, ours, reference, tolerance=0.0, *more, **named):
        if tolerance and isinstance(ours, torch.Tensor) and ours.shape == reference.shape:
            difference, _ = checks.largest_difference(ours, reference)
            near = tolerance if seed else tolerance / 4
            assert difference <= near or difference > tolerance, f"{name}: {difference} is near {tolerance}"
        return whole(name, ours, reference, tolerance, *more, **named)

    checks.compare = with_room
    if seed:
        RoundsOtherwise(seed).__enter__()


def run(environment):
    """All notebooks in one such environment. -> exit status"""
    clean = {name: value for name, value in os.environ.items() if name not in ("CI", "OMP_NUM_THREADS")}
    with tempfile.TemporaryDirectory() as folder:
        startup = Path(folder) / "profile_default" / "startup" / "prepare.py"
        startup.parent.mkdir(parents=True)
        startup.write_text(STARTUP, encoding="utf-8")
        workers = max(1, utils.usable_cores() // int(environment.get("OMP_NUM_THREADS", "1")))
        command = [sys.executable, "-m", "pytest", "-q", "-n", str(workers), "--dist", "loadfile", *start.NBVAL, "notebooks"]
        return subprocess.call(command, cwd=ROOT, env=clean | {"IPYTHONDIR": folder} | environment)


def main():
    failed = []
    for name in sys.argv[1:] or RUNS:
        print(f"\n{name}: {RUNS[name]}", flush=True)
        failed += [name] if run(RUNS[name]) else []
    print(f"\n{len(failed)} runs differ: {', '.join(failed)}" if failed else "\nall runs give the same outputs")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()

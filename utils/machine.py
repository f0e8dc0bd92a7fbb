"""Whether this machine is fit for the series: what notebook 00 prints. -> python -m utils.machine"""

import shutil
import sys
import time

started = time.perf_counter()
from utils import usable_cores  # noqa: E402
from utils.errors import LessonError  # noqa: E402
from utils.reference import BUNDLED, BUNDLED_VLM, ROOT, find_folder  # noqa: E402

import psutil  # noqa: E402
import torch  # noqa: E402

SECONDS = time.perf_counter() - started  # to import torch and transformers, in this process
MEMORY, DISK = 3.0, 1.0  # GB that the largest notebook needs, with room; GB for saved work and a checkpoint's cache


def findings():
    """-> (whether it will do, what was found, what to do about it) for each thing that the notebooks need"""
    free = psutil.virtual_memory().available / 1e9
    room = shutil.disk_usage(ROOT).free / 1e9
    busy = psutil.cpu_percent(interval=0.5)
    yield True, f"Python {sys.version.split()[0]}, PyTorch {torch.__version__}, imported in {SECONDS:.0f} s", ""
    yield free > MEMORY, f"{free:.1f} GB of memory free", f"close other programs: {MEMORY:.0f} GB are needed"
    yield room > DISK, f"{room:.1f} GB of disk free", f"make room: {DISK:.0f} GB are needed"
    yield busy < 70, f"{usable_cores()} cores, {busy:.0f} % busy", "everything works, but takes longer than the notebooks say"
    for variable, bundled, kind in (("SIGLIP_CHECKPOINT", BUNDLED, "siglip"), ("VLM_CHECKPOINT", BUNDLED_VLM, "paligemma")):
        try:
            yield True, f"the model {find_folder(variable, bundled, kind)[1]}", ""
        except LessonError as error:
            yield False, f"no model for {variable}", f"{error}; `git checkout models` brings the bundled ones back"


def show_machine():
    """Print one line for each finding."""
    for good, found, way_out in findings():
        print(f"{'good' if good else 'LOOK':5} {found}" + ("" if good else f": {way_out}"))


if __name__ == "__main__":
    show_machine()

"""What the notebooks share. Import it before torch: it tells torch's threads how many they are and how to wait."""

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from utils.errors import LessonError

WAITING = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")  # by each of these a user may have chosen already


def cpu_quota(cgroups=Path("/sys/fs/cgroup"), mine=Path("/proc/self/cgroup")):
    """How many cores' time the containers that this process runs in grant it, or infinity. Reads cgroup v2 and v1."""
    quota = float("inf")
    for line in mine.read_text(encoding="utf-8").splitlines() if mine.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = cgroups / controllers  # v2 has no controllers here, and one tree for all
        # Inside a container the path may be the host's, of which only the top can be seen.
        for folder in {top, *((top / path.lstrip("/")), *(top / path.lstrip("/")).parents)}:
            if folder.is_relative_to(top):
                quota = min(quota, quota_of(folder))
    return quota


def quota_of(folder):
    """What one cgroup's own files say: "200000 100000" are two cores; "max" and -1 are no limit."""
    files = [folder / "cpu.max"], [folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"]
    for names in files:
        if all(name.exists() for name in names):
            allowed, period = " ".join(name.read_text(encoding="utf-8") for name in names).split()
            return float(allowed) / float(period) if re.fullmatch(r"\d+", allowed) else float("inf")
    return float("inf")


def usable_cores():
    """How many cores this process may keep busy: those that it is bound to, and no more than its container's quota."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, int(min(bound, cpu_quota())))


def set_threads(environment):
    """Set, in place, what OpenMP reads when torch is imported, and never what the user has set.

    By default a thread that waits for another one spins: on a core that another program needs, each step then takes
    thirty times as long. One that sleeps at once wakes late: a small model, alone on the machine, takes up to twice as long.
    So it spins for a moment, and then sleeps. The moment is counted in turns of a loop, which take 5 to 50 ns, as the processor
    likes: 500 were enough on one machine, and too few on another. A container's quota is no limit to torch either: it starts a
    thread for every core of the host.
    """
    if not any(name in environment for name in WAITING):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"  # GNU's OpenMP reads it, and LLVM's and Intel's, on macOS and Windows
        environment["GOMP_SPINCOUNT"] = "2000"  # GNU's alone
    if usable_cores() < os.cpu_count():
        environment.setdefault("OMP_NUM_THREADS", str(usable_cores()))


def check_python():
    """Raise a LessonError if this Python is not one that the series was installed for."""
    missing = [name for name in ("torch", "transformers", "matplotlib") if find_spec(name) is None]
    if sys.version_info < (3, 11) or missing:
        lack = f"lacks {', '.join(missing)}" if missing else f"is {sys.version.split()[0]}, too old"
        way_out = "start with `make lab`, or choose the Python in .venv as its kernel (TROUBLESHOOTING.md#the-kernel)"
        raise LessonError(f"this Python {lack}: {way_out}")


set_threads(os.environ)
check_python()

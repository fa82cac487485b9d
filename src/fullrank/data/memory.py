"""How much of the machine a program may use: memory, words for amounts of it, and cores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes that new data may take without swapping: what the kernel says, within all containers' limits."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return max(min(free, *_left_in_groups(root), free), 0)


def _left_in_groups(root: Path) -> Iterator[int]:
    """Give the bytes left in each control group that this process is in and that has a limit, of both versions."""
    mounted = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    own = [line.split(":", 2)[1:] for line in lines if line.count(":") >= 2]
    v2 = next((path for controllers, path in own if not controllers), "/")
    v1 = next((path for controllers, path in own if "memory" in controllers.split(",")), "/")
    for top, path, (limit, usage, cache) in (
        (mounted, v2, ("memory.max", "memory.current", "inactive_file")),
        (mounted / "memory", v1, ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ):
        below = Path(path.lstrip("/"))
        for group in (top / part for part in (below, *below.parents)):  # an outer group's limit holds inside it
            try:
                most, used = (int((group / name).read_text()) for name in (limit, usage))
                stat = dict(line.split()[:2] for line in (group / "memory.stat").read_text().splitlines())
                yield most - used + int(stat.get(cache, 0))  # the cache is given back on demand
            except (OSError, ValueError):  # no such group here, or one without a limit ("max")
                continue


def peak_memory() -> int:
    """Return the most bytes of memory that this process has had so far."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):  # not Linux
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def cores() -> int:
    """Return how many cores this process may run on: a scheduler often gives a job a few of a machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # not Linux


def gigabytes(count: float) -> str:
    """Write a number of bytes for people.

    >>> gigabytes(1_536_000_000), gigabytes(20_000_000)
    ('1.5 GB', '20 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.{0 if count >= 1e7 else 1}f} MB"

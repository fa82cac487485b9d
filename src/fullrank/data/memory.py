"""How much memory there is, and words for amounts of it."""

from __future__ import annotations

import os
from pathlib import Path


def available_memory() -> int:
    """Return the bytes that new data may take without swapping: what the kernel says, within a container's limit."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        lines = (group / "memory.stat").read_text().splitlines()
        cache = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file"))  # given back on demand
        free = min(free, limit - int((group / "memory.current").read_text()) + cache)
    except (OSError, ValueError, StopIteration):  # no container, or one without a limit ("max")
        pass
    return max(free, 0)


def gigabytes(count: float) -> str:
    """Write a number of bytes for people.

    >>> gigabytes(1_536_000_000), gigabytes(20_000_000)
    ('1.5 GB', '20 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.{0 if count >= 1e7 else 1}f} MB"

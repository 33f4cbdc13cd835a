"""The memory of this computer."""

import os
from pathlib import Path

GIB = 2**30
# Limits of the control group, as containers and job schedulers set them (versions 2 and 1)
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def total_memory() -> float:
    """:return: Bytes that this process may have at most; infinite if the system does not say"""
    try:
        found = [float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))]
    except (AttributeError, ValueError, OSError):
        # Windows has no sysconf
        found = [float("inf")]
    for path in _LIMITS:
        try:
            found.append(float(Path(path).read_text()))
        except (OSError, ValueError):
            # No such group, or "max"
            continue
    return min(found)

"""What this machine is and where it keeps what can be made again."""

import contextlib
import functools
import os
from pathlib import Path


@functools.cache
def instructions() -> frozenset[str]:
    """Names of the instruction sets of the processor, as Linux lists them; empty elsewhere."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith(("flags", "Features")):
                return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def cache_root() -> Path:
    """The folder of gemkit's caches: in $XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gemkit"

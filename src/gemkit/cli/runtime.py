"""What a command sets before JAX is imported: a cache of compiled programs, and quiet.

A short `gemkit generate` spends most of its time compiling; with the cache the second one starts
in a third of it. Settings the user made in the environment win.
"""

import contextlib
import hashlib
import logging
import os
import platform
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

from gemkit.machine import cache_root, instructions

MOST_BYTES = 2**30
"""The cache's size from which the oldest programs are removed."""
LEAST_SECONDS = "0.1"
"""Programs compiled in less are not kept."""


def prepare_jax(debug: bool = False) -> None:
    """Points JAX at its cache and keeps other people's warnings off the terminal."""
    if not debug:
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        logging.getLogger("jax").setLevel(logging.ERROR)
        # XLA's own log: 0 shows all, 3 what is fatal.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    folder = cache_folder()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and _is_usable(folder):
        trim(folder, MOST_BYTES)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", LEAST_SECONDS)


def cache_folder() -> Path:
    """A folder for this processor and this jaxlib; programs of another need not run here."""
    processor = " ".join(sorted(instructions())) or platform.processor()
    machine = f"{platform.machine()} {processor} {version('jaxlib')}"
    return cache_root() / "xla" / hashlib.sha256(machine.encode()).hexdigest()[:16]


def trim(folder: Path, most: int) -> None:
    """Removes the programs used longest ago until half of `most` bytes are left, if over it."""
    with contextlib.suppress(OSError):
        files = [(file.stat(), file) for file in folder.iterdir()]
        size = sum(stat.st_size for stat, _ in files)
        if size <= most:
            return
        for stat, file in sorted(files, key=lambda pair: pair[0].st_atime):
            if size <= most // 2:
                break
            file.unlink(missing_ok=True)
            size -= stat.st_size


def _is_usable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)

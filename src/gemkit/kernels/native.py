"""The kernels' library: compiled once for a machine, kept in the cache, loaded when it is used.

It is made by the machine's own C++ compiler, in seconds. Where there is none, or the
processor lacks the instructions, everything runs in plain JAX.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from gemkit.machine import cache_root, instructions

SOURCES = tuple(Path(__file__).with_name(name) for name in ("dot.cc", "loss.cc"))
HEADER = Path(__file__).with_name("tiles.h")
TARGETS = ("gemkit_dot", "gemkit_loss")
"""What XLA calls, by the names the library exports."""
NEEDED = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16")
FLAGS = (
    "-O3", "-std=c++17", "-shared", "-fPIC", "-w",
    "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512bf16", "-mfma",
)  # fmt: skip
COMPILERS = ("c++", "g++", "clang++")
SWITCH = "GEMKIT_KERNELS"
"""Set to 0 in the environment, everything runs in plain JAX."""
LONGEST_COMPILATION = 120.0


@functools.cache
def loaded() -> bool:
    """Whether the kernels are there for XLA to call; tries to make them the first time."""
    if os.environ.get(SWITCH) == "0" or reason_against() is not None:
        return False
    path = library_path()
    if not path.is_file() and not _compile(path):
        return False
    import jax

    try:
        library = ctypes.CDLL(str(path))
    except OSError:
        return False
    for name in TARGETS:
        target = jax.ffi.pycapsule(getattr(library, name))
        jax.ffi.register_ffi_target(name, target, platform="cpu")
    return True


def reason_against() -> str | None:
    """Why this machine cannot run them; None if it can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"they are written for Linux on x86-64, this is {sys.platform}"
    missing = [name for name in NEEDED if name not in instructions()]
    if missing:
        return f"the processor lacks {', '.join(missing)}"
    if not library_path().is_file() and compiler() is None:
        return "there is no C++ compiler (c++, g++ or clang++)"
    return None


def compiler() -> str | None:
    """Path of $CXX or of the first compiler found."""
    names = (os.environ.get("CXX"), *COMPILERS)
    return next((path for name in names if name and (path := shutil.which(name))), None)


@functools.cache
def library_path() -> Path:
    """Where it is kept: a name of its own for each source and each jaxlib."""
    sources = b"".join(file.read_bytes() for file in (HEADER, *SOURCES))
    what = sources + " ".join((*FLAGS, version("jaxlib"))).encode()
    return cache_root() / "kernels" / f"{hashlib.sha256(what).hexdigest()[:16]}.so"


def _compile(path: Path) -> bool:
    import jax

    command = [str(compiler()), *FLAGS, f"-I{jax.ffi.include_dir()}", *map(str, SOURCES)]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            subprocess.run(
                [*command, "-o", str(made)], check=True, timeout=LONGEST_COMPILATION,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            os.replace(made, path)
        return True
    return False

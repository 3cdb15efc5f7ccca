"""Loading and converting a checkpoint beside reading and copying its bytes.

Before each measurement the files leave the page cache, so that both sides wait for the disk.
Reading and loading take turns; 5 GB are copied and converted once. gemkit's sides are processes of
their own, timed once they have imported it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from measure import Row, Seconds, beside, limited, rates
from models import Size

from gemkit.model.config import GemmaConfig
from gemkit.model.variants import VARIANTS

PIECE = 2**24
GIGABYTE = 1e9

# What is imported before the clock starts, and what is timed.
LOAD = (
    "from gemkit.checkpoint.load import load_checkpoint",
    "load_checkpoint(Path(sys.argv[1]))",
)
CONVERT = (
    "from gemkit.checkpoint.convert import convert",
    "convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4] or None)",
)


def run(size: Size) -> list[Row]:
    """Rows for a Hugging Face folder of random weights in bfloat16, in shards."""
    from gemkit.model.weights import count_parameters

    config = VARIANTS["gemma_2b_en"].config if size.rounds > 1 else size.config
    folder = Path(tempfile.mkdtemp(dir=os.environ.get("TMPDIR", "/var/tmp")))
    try:
        source = folder / "hf"
        _write(source, config)
        stored = sum(file.stat().st_size for file in source.iterdir()) / GIGABYTE
        sides: dict[str, Callable[[], Seconds]] = {
            "read": lambda: _timed(source, lambda: _read(source)),
            "load": _process(folder, LOAD, str(source)),
            "copy": lambda: _timed(source, lambda: _copy(source, folder / "copy")),
            "convert": _process(folder, CONVERT, str(source), str(folder / "m.gguf"), "gguf", ""),
            "quantise": _process(
                folder, CONVERT, str(source), str(folder / "m.gguf"), "gguf", "q8_0"
            ),
        }
        found: dict[str, dict[str, list[float]]] = {name: {} for name in sides}
        often = ("read", "load")
        for name in (*often * size.rounds, *(name for name in sides if name not in often)):
            for part, figure in sides[name]().items():
                found[name].setdefault(part, []).append(figure)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    speed = {name: rates(stored, parts["seconds"]) for name, parts in found.items()}
    what = f"{count_parameters(config) / 1e9:.1f}B parameters in bfloat16, {stored:.1f} GB"
    peak = [bytes / GIGABYTE - stored for bytes in found["load"]["bytes"]]
    return [
        beside("load a folder", "GB/s", speed["load"], speed["read"],
               f"{what}; ratio to reading the bytes; imports left out", at_least=1),
        limited("load a folder, memory over the model", "GB", peak, 1.0, "of the whole process"),
        beside("convert to GGUF", "GB/s", speed["convert"], speed["copy"],
               "probes of source and result included; ratio to copying the bytes"),
        beside("convert to GGUF, Q8_0", "GB/s", speed["quantise"], speed["copy"], "the same"),
    ]  # fmt: skip


def _write(folder: Path, config: GemmaConfig) -> None:
    """Random weights leaf by leaf: the same noise, beginning elsewhere in each."""
    import jax.numpy as jnp

    from gemkit.checkpoint.save import save_leaves
    from gemkit.model.weights import specs

    noise = np.random.default_rng(0).normal(size=2**22).astype(np.float32)

    def leaf(number: int, shape: tuple[int, ...]) -> Callable[[], Any]:
        scale = 0.1 if len(shape) == 1 else shape[-1] ** -0.5

        def make() -> Any:
            part = np.roll((noise * scale).astype(ml_dtypes.bfloat16), number * 7919)
            return jnp.asarray(np.resize(part, shape))

        return make

    leaves = {path: leaf(n, spec.shape) for n, (path, spec) in enumerate(specs(config).items())}
    save_leaves(folder, config, leaves, "bfloat16", None, "hf")


def _timed(cold: Path, work: Callable[[], None]) -> Seconds:
    _forget(cold)
    began = time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - began}


def _process(folder: Path, program: tuple[str, str], *arguments: str) -> Callable[[], Seconds]:
    """A fresh interpreter: seconds of what it is timed at, and the most memory it takes."""

    def side() -> Seconds:
        for target in arguments[1:2]:
            Path(target).unlink(missing_ok=True)
        _forget(Path(arguments[0]))
        imported, timed = program
        text = TIMED.format(imported=imported, timed=timed)
        done = subprocess.run(
            [sys.executable, "-c", text, *arguments], check=True, capture_output=True, text=True,
            cwd=folder,
        )  # fmt: skip
        seconds, peak = done.stdout.split()[-2:]
        return {"seconds": float(seconds), "bytes": float(peak)}

    return side


# Not `ru_maxrss`, which begins with what this process has. Pages of mapped files count too.
TIMED = """import sys, time
from pathlib import Path
{imported}
began = time.perf_counter()
{timed}
seconds = time.perf_counter() - began
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(seconds, 1024 * int(status["VmHWM"].split()[0]))
"""


def _forget(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read(folder: Path) -> None:
    piece = bytearray(PIECE)
    for file in folder.iterdir():
        with file.open("rb", buffering=0) as handle:
            while handle.readinto(piece):
                pass


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for file in source.iterdir():
        with file.open("rb") as read, (target / file.name).open("wb") as write:
            shutil.copyfileobj(read, write, PIECE)
            write.flush()
            os.fsync(write.fileno())

"""Completed programs put to the test: each runs in a process of its own, see `evaluate.confine`.

A program passes if it ends with exit code 0, so that an `assert` that fails counts, and its
doctests, where it has any, pass too. That is pass@1 with one greedy answer a row (Chen et al.
2021, arXiv:2107.03374).
"""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from gemkit.generate.score import Progress

CONFINE = Path(__file__).with_name("confine.py")
FILE, MODULE = "completed.py", "completed"
DOCTEST = ">>>"
# As `python -I completed.py` would run it, but that it finds the modules beside its place.
_START = "import runpy, sys; sys.path[:0] = sys.argv[1:]; "
RUN = f"{_START}sys.argv[:] = ['{FILE}']; runpy.run_path('{FILE}', run_name='__main__')"
RUN_DOCTESTS = (
    f"{_START}sys.path[:0] = ['']; import {MODULE}, doctest; "
    f"sys.exit('a doctest fails' if doctest.testmod({MODULE}).failed else 0)"
)
SAID_BYTES = 4096
"""Of the last that a program wrote to stderr, for the reason."""
NOT_PYTHON = "it is no Python"


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes:
      seconds: by the clock.
      cpu_seconds: of its one processor.
      memory: bytes of addresses.
      file_bytes: of a file it writes, and of what it says; what it prints is thrown away.
    """

    seconds: float = 15.0
    cpu_seconds: int = 5
    memory: int = 2 * 2**30
    file_bytes: int = 16 * 2**20


LIMITS = Limits()


class Program(NamedTuple):
    """A Python file to run, and the folders where it finds modules beside those installed."""

    text: str
    folders: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Passed:
    """How many programs passed.

    Attributes:
      passed: of `counted`.
      counted: rows whose program passes with the true answer; others would tell nothing.
      rows: in all.
      reason: why the first of the others fails with the true answer, "" if all count.
    """

    passed: int
    counted: int
    rows: int
    reason: str

    @property
    def rate(self) -> float:
        """pass@1."""
        return self.passed / self.counted


def failure(program: Program, limits: Limits = LIMITS) -> str:
    """Why a program does not pass, "" if it does.

    >>> failure(Program("assert 1 + 1 == 2"))
    ''
    >>> failure(Program("assert 1 + 1 == 3"))
    'AssertionError'
    """
    with tempfile.TemporaryDirectory(prefix="gemkit-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / FILE).write_text(program.text, "utf-8", "replace")
        found = _run(folder, limits, RUN, program.folders)
        if found or DOCTEST not in program.text:
            return found
        return _run(folder, limits, RUN_DOCTESTS, program.folders)


def failures(
    programs: Sequence[Program | None], limits: Limits = LIMITS,
    progress: Progress | None = None,
) -> list[str]:
    """`failure` of each, equal ones run once; None is none that can be run.

    Args:
      progress: called with (programs run, programs in all).
    """
    different = list(dict.fromkeys(program for program in programs if program is not None))
    found: dict[Program | None, str] = {None: NOT_PYTHON}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reasons = pool.map(lambda program: failure(program, limits), different)
        for done, (program, reason) in enumerate(zip(different, reasons, strict=True), 1):
            found[program] = reason
            if progress is not None:
                progress(done, len(different))
    return [found[program] for program in programs]


def passed(
    programs: Sequence[Program | None], with_truth: Sequence[str], limits: Limits = LIMITS,
    progress: Progress | None = None,
) -> Passed:  # fmt: skip
    """How many programs pass.

    Args:
      programs: with the answers.
      with_truth: `failures` of the same with the true answers, at least one of them "".
    """
    asked = [program for program, bad in zip(programs, with_truth, strict=True) if not bad]
    good = sum(not reason for reason in failures(asked, limits, progress))
    return Passed(good, len(asked), len(programs), next(filter(None, with_truth), ""))


def _run(folder: Path, limits: Limits, code: str, folders: Sequence[str]) -> str:
    room = dataclasses.asdict(limits)
    seconds = room.pop("seconds")
    python = [sys.executable, "-I", "-B", "-X", "utf8"]
    command = [*python, "-c", code, *folders]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*python, str(CONFINE), json.dumps(room), *command], cwd=folder,
            env=_environment(folder), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=said, start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"it ran for more than {seconds:g} seconds"
        finally:
            # What it started and left goes with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return "" if status == 0 else _reason(status, said.fileno())


def _environment(folder: Path) -> dict[str, str]:
    # Libraries that start a thread a core could not, and would fail.
    own = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8", **own, **kept}


def _reason(status: int, said: int) -> str:
    if status < 0:
        return f"it was ended by {signal.Signals(-status).name}"
    size = os.fstat(said).st_size
    text = os.pread(said, SAID_BYTES, max(0, size - SAID_BYTES)).decode("utf-8", "replace")
    lines = text.strip().splitlines()
    return lines[-1][:200] if lines else f"exit code {status}"

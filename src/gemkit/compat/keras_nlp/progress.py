"""The lines Keras prints while it trains."""

import math
import sys
import time
from collections.abc import Mapping

WIDTH = 20
INTERVAL = 0.05


class ProgressLines:
    """One line an epoch: steps, a bar, seconds, measures.

    On a terminal the line is redrawn as steps are done, elsewhere written once.

    Args:
      verbose: 0 for nothing, 2 for lines without a bar.
      epochs, steps: in all, and in an epoch.
    """

    def __init__(self, verbose: object, epochs: int, steps: int) -> None:
        self._verbose = 1 if verbose in ("auto", True) else int(str(verbose or 0))
        self._epochs, self._steps = epochs, steps
        self._live = sys.stdout.isatty()
        self._began = self._first = self._drawn = 0.0
        self._width = 0

    def begin(self, epoch: int) -> None:
        """Before an epoch, from 0."""
        self._began = self._first = time.perf_counter()
        self._drawn, self._width = 0.0, 0
        if self._verbose and self._epochs > 1:
            print(f"Epoch {epoch + 1}/{self._epochs}")

    def step(self, done: int, measures: Mapping[str, float]) -> None:
        """After a step, counted from 1."""
        now = time.perf_counter()
        if done == 1:
            self._first = now
        if self._verbose == 1 and self._live and now - self._drawn >= INTERVAL:
            self._drawn = now
            left = self._per_step(done, now) * (self._steps - done)
            self._write(done, _clock(left), measures, now, "")

    def end(self, measures: Mapping[str, float]) -> None:
        """After an epoch."""
        if self._verbose:
            now = time.perf_counter()
            self._write(self._steps, f"{now - self._began:.0f}s", measures, now, "\n")

    def _per_step(self, done: int, now: float) -> float:
        """Seconds; the first step, which compiles, counts only while it is the only one."""
        if done > 1:
            return (now - self._first) / (done - 1)
        return (now - self._began) / max(done, 1)

    def _write(
        self, done: int, clock: str, measures: Mapping[str, float], now: float, end: str
    ) -> None:
        count = f"{done:{len(str(self._steps))}d}/{self._steps}"
        bar = "━" * (WIDTH * done // self._steps)
        if self._verbose == 2:
            head = f"{count} - {clock} - {_duration(self._per_step(done, now))}"
        else:
            bar = f"{bar}{'─' * (WIDTH - len(bar))}"
            head = f"{count} {bar} {clock} {_duration(self._per_step(done, now))}"
        line = "".join([head, *(f" - {name}: {_number(v)}" for name, v in measures.items())])
        start = "\r" if self._live and self._verbose == 1 else ""
        print(f"{start}{line:<{self._width}}", end=end, flush=True)
        self._width = len(line)


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) > 1e-3 else f"{value:.4e}"


def _duration(seconds: float) -> str:
    """Seconds of a step as Keras writes them.

    >>> _duration(0.0123)
    '12ms/step'
    """
    if seconds >= 1 or seconds == 0:
        return f"{seconds:.0f}s/step"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.0f}ms/step"
    return f"{seconds * 1e6:.0f}us/step"


def _clock(seconds: float) -> str:
    if seconds > 3600:
        return f"{seconds // 3600:.0f}:{seconds % 3600 // 60:02.0f}:{math.floor(seconds % 60):02d}"
    if seconds > 60:
        return f"{seconds // 60:.0f}:{math.floor(seconds % 60):02d}"
    return f"{math.floor(seconds)}s"

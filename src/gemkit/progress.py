"""Progress bars on stderr, for anything that takes over two seconds.

Quiet where nobody watches: without a terminal, or with `enabled=False`, nothing is printed.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

Update = Callable[[int, int, str], None]
"""(done, total, remark) → None."""

PATIENCE_SECONDS = 1.0


def _ignore(done: int, total: int, remark: str = "") -> None:
    pass


@contextlib.contextmanager
def progress(title: str, enabled: bool | None = None) -> Iterator[Update]:
    """A bar with share done, time left and a remark; it appears after a second of work.

    Args:
      title: what is going on.
      enabled: None shows the bar when stderr is a terminal.
    """
    if not (sys.stderr.isatty() if enabled is None else enabled):
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[remark]}"),
    )  # fmt: skip
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(title, total=None, remark="")
    began, shown = time.monotonic(), False

    def update(done: int, total: int, remark: str = "") -> None:
        nonlocal shown
        if not shown and time.monotonic() - began > PATIENCE_SECONDS:
            bar.start()
            shown = True
        bar.update(task, completed=done, total=total, remark=remark)

    try:
        yield update
    finally:
        if shown:
            bar.stop()

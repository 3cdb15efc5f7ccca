"""Progress bars on stderr, for anything that takes over two seconds.

Quiet where nobody watches: without a terminal, or with `enabled=False`, nothing is printed.
"""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

Update = Callable[[int | None, int | None, str], None]
"""(done, total, remark) → None; a count that is None stays as it was."""

PATIENCE_SECONDS = 1.0


def _ignore(done: int | None, total: int | None, remark: str = "") -> None:
    pass


@contextlib.contextmanager
def progress(title: str, enabled: bool | None = None, remark: str = "") -> Iterator[Update]:
    """A bar with share done, time left and a remark; it appears after a second of work.

    Args:
      title: what is going on.
      enabled: None shows the bar when stderr is a terminal.
      remark: stands there until the first update.
    """
    if not (sys.stderr.isatty() if enabled is None else enabled):
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
        TimeRemainingColumn(compact=True), TextColumn("{task.fields[remark]}"),
    )  # fmt: skip
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(title, total=None, remark=remark)
    # A timer, as the first update may be long in coming: programs are compiled before it.
    start = threading.Timer(PATIENCE_SECONDS, bar.start)
    start.daemon = True
    start.start()

    def update(done: int | None, total: int | None, remark: str = "") -> None:
        bar.update(task, completed=done, total=total, remark=remark)

    try:
        yield update
    finally:
        start.cancel()
        start.join()
        if bar.live.is_started:
            bar.stop()

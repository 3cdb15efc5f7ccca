"""Progress bars on stderr, for anything that takes over two seconds, and the memory it takes.

Quiet where nobody watches: without a terminal, or with `enabled=False`, nothing is printed.
"""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

Update = Callable[[int | None, int | None, str], None]
"""(done, total, remark) → None; a count that is None stays as it was."""

PATIENCE_SECONDS = 1.0


def peak_memory() -> int:
    """The most bytes held at once so far: on the accelerator where one tells, else by the process.

    What is held between two steps would say little: a step frees what it computes with.
    """
    import resource

    import jax

    counts = [device.memory_stats() or {} for device in jax.local_devices()]
    peak = max(count.get("peak_bytes_in_use", 0) for count in counts)
    unit = 1 if sys.platform == "darwin" else 1024
    return peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_memory() -> int | None:
    """Bytes a program can still have: of the accelerator where one tells, else of this machine.

    None where nothing tells. A container's limit counts as the machine's.
    """
    import jax

    told = [device.memory_stats() or {} for device in jax.local_devices()]
    if told and all("bytes_limit" in stats for stats in told):
        return min(stats["bytes_limit"] - stats.get("bytes_in_use", 0) for stats in told)
    found = []
    with contextlib.suppress(OSError, ValueError):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        found += [1024 * int(x.split()[1]) for x in lines if x.startswith("MemAvailable:")]
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit, used = (
            int((group / name).read_text("ascii")) for name in ("memory.max", "memory.current")
        )
        found.append(limit - used)
    return min(found, default=None)


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
    from rich.table import Column

    # On a narrow terminal the end of the remark goes first.
    rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=16), MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[remark]}", table_column=rest),
    )  # fmt: skip
    bar = Progress(*columns, console=Console(stderr=True), transient=True, expand=True)
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

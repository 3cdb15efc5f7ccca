"""The folder of a run: it appears whole or not at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from gemkit.atomic import new_folder
from gemkit.errors import DataError, UsageError


def check_run_folder(target: Path) -> None:
    """Raises UsageError unless a run directory can be made there: nothing or an empty folder."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(
            f"{target} exists and is not an empty folder", "a new run directory", "name another"
        )


@contextlib.contextmanager
def new_run_folder(out: str | Path | None) -> Iterator[Path | None]:
    """A temporary folder that takes the run directory's place when all went well."""
    if out is None:
        yield None
        return
    target = Path(out)
    check_run_folder(target)
    with new_folder(target, DataError) as unfinished:
        yield unfinished

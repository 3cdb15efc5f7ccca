"""The folder of a run: it appears whole or not at all."""

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import safetensors

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
    target = Path(out).resolve()  # "." has no name to put another beside
    check_run_folder(target)
    unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        if target.exists():
            target.rmdir()
        unfinished.rename(target)
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot write {out}: {reason}", "a folder with room") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)

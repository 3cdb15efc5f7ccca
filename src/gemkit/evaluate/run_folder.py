"""The folder of a run: what it holds appears whole or not at all.

While a run goes on the folder holds its checkpoints, once there are any, and nothing else.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from gemkit.atomic import new_folder
from gemkit.errors import DataError, UsageError

CHECKPOINTS = "checkpoints"


def check_run_folder(target: Path, resume: bool = False) -> None:
    """Raises UsageError unless a run can be written there.

    That is nothing, an empty folder, or with `resume` a run that has checkpoints.
    """
    if not target.exists():
        return
    held = {path.name for path in target.iterdir()} if target.is_dir() else {"a file"}
    if not held or (resume and CHECKPOINTS in held):
        return
    if resume and "run.json" in held:
        raise UsageError(
            f"{target} is a finished run without checkpoints", "one that can go on",
            "keep them with --checkpoint-every, or name another run directory",
        )  # fmt: skip
    if held == {CHECKPOINTS}:
        raise UsageError(
            f"{target} holds a run that was cut off", "a new run directory",
            "pass --resume to go on with it, or name another",
        )  # fmt: skip
    raise UsageError(
        f"{target} exists and is not an empty folder", "a new run directory", "name another"
    )


@contextlib.contextmanager
def new_run_folder(out: str | Path | None, resume: bool = False) -> Iterator[Path | None]:
    """A temporary folder whose contents become the run directory's when all went well.

    Checkpoints that are in the run directory by then stay there.
    """
    if out is None:
        yield None
        return
    target = Path(out)
    check_run_folder(target, resume)
    if resume:
        for left in target.parent.glob(f".{target.stem[:100]}.????????.partial*"):
            shutil.rmtree(left, ignore_errors=True)
    with new_folder(target, DataError, place=_move_in) as unfinished:
        yield unfinished


def _move_in(finished: Path, target: Path) -> None:
    """run.json goes last: with it the run is whole, and without it one can resume."""
    if not target.exists() or not any(target.iterdir()):
        finished.rename(target)
        return
    (target / "run.json").unlink(missing_ok=True)
    for part in sorted(finished.iterdir(), key=lambda path: path.name == "run.json"):
        if (target / part.name).is_dir():
            shutil.rmtree(target / part.name)
        part.replace(target / part.name)
    finished.rmdir()

"""Files and folders that appear whole or not at all: written beside their place, then renamed."""

import contextlib
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import safetensors

from gemkit.errors import GemkitError

WRITE_BACK_SECONDS = 0.5


@contextlib.contextmanager
def new_folder(
    target: Path, failure: type[GemkitError], needed: int = 0,
    place: Callable[[Path, Path], None] | None = None,
) -> Iterator[Path]:  # fmt: skip
    """An empty folder beside `target` that takes its place, in a single step, if nothing fails.

    Whatever is at `target` by then goes away: the caller has checked that it may.

    Args:
      target: the folder to be; folders on the way are made.
      failure: raised for what the disk refuses.
      needed: bytes that must be free.
      place: puts the folder, its first argument, where the second says, instead of that step.
    """
    with _beside(target, failure, needed) as unfinished:
        unfinished.mkdir()
        with _written_back(unfinished):
            yield unfinished
        for file in unfinished.rglob("*"):
            _settle(file)
        (place or _exchange)(unfinished, _resolved(target))


@contextlib.contextmanager
def new_file(target: Path, failure: type[GemkitError], needed: int = 0) -> Iterator[Path]:
    """As `new_folder`, for a file: yields where to write it."""
    with _beside(target, failure, needed) as unfinished:
        with _written_back(unfinished):
            yield unfinished
        _settle(unfinished)
        os.replace(unfinished, _resolved(target))


def write_bytes(target: Path, content: bytes, failure: type[GemkitError]) -> None:
    """Writes a file; a device or pipe, such as /dev/stdout, is written to as it comes."""
    if target.parts[:2] == ("/", "dev") or target.is_fifo():
        try:
            with target.open("ab") as stream:
                stream.write(content)
        except OSError as error:
            raise _refused(target, error, failure) from error
        return
    with new_file(target, failure) as unfinished, unfinished.open("xb") as file:
        file.write(content)


@contextlib.contextmanager
def _beside(target: Path, failure: type[GemkitError], needed: int) -> Iterator[Path]:
    place = _resolved(target)
    name = f".{place.stem[:100]}.{secrets.token_hex(4)}.partial{place.suffix}"
    unfinished = place.with_name(name)
    try:
        with contextlib.suppress(FileExistsError):  # if that is a file, writing says so
            place.parent.mkdir(parents=True)
        free = shutil.disk_usage(place.parent).free
        if free < needed:
            raise failure(f"{target} needs {needed} bytes and {free} are free", "room on the disk")
        yield unfinished
    # The safetensors library words a full disk in an exception of its own.
    except (OSError, safetensors.SafetensorError) as error:
        raise _refused(target, error, failure) from error
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def _written_back(path: Path) -> Iterator[None]:
    """Has the disk write meanwhile: left alone, it begins when some GB or the end have come."""
    ended, refused = threading.Event(), list[OSError]()

    def flush() -> None:
        while not ended.wait(WRITE_BACK_SECONDS) and not refused:
            try:
                for file in (path, *path.rglob("*")):
                    _settle(file)
            except FileNotFoundError:
                continue  # renamed or removed by who writes
            except OSError as error:
                refused.append(error)

    worker = threading.Thread(target=flush, name="write-back", daemon=True)
    worker.start()
    try:
        yield
    finally:
        ended.set()
        worker.join()
    # The system tells of what it could not write only once, and nothing may take its place then.
    if refused:
        raise refused[0]


def _resolved(target: Path) -> Path:
    # "." has no name to put another beside, and a link's own place is not where it leads.
    return Path(os.path.realpath(target))


def _settle(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _exchange(new: Path, target: Path) -> None:
    if not target.exists():
        new.rename(target)
        return
    old = new.with_name(f"{new.name}.old")
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _refused(target: Path, error: Exception, failure: type[GemkitError]) -> GemkitError:
    reason = getattr(error, "strerror", None) or error
    return failure(
        f"cannot write {target}: {reason}", "a place that can be written, with room",
        "nothing was changed",
    )  # fmt: skip

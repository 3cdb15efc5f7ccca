"""The course of a run as TensorBoard's event files, written as it goes, for `--tensorboard`."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from gemkit.errors import DataError, UsageError

# Figure of a training row → the name TensorBoard shows; a slash puts it into a group.
TAGS = {
    "loss": "train/loss",
    "accuracy": "train/accuracy",
    "learning_rate": "train/learning_rate",
    "gradient_norm": "train/gradient_norm",
    "epoch": "train/epoch",
    "peak_memory": "machine/peak_memory_bytes",
}

Tell = Callable[[Mapping[str, float]], None]


def check_tensorboard() -> None:
    """Makes sure, before long work, that event files can be written.

    Raises:
      UsageError: the library for it is not installed.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        raise UsageError(
            "TensorBoard files are written by tensorboardX, which is not installed",
            "it beside gemkit", "pip install 'gemkit[tensorboard]'",
        )  # fmt: skip


def scalars(row: Mapping[str, float]) -> dict[str, float]:
    """What TensorBoard is told of a row of the history, by tag.

    >>> scalars({"step": 3, "loss": 2.0, "tokens": 480, "slots": 512, "seconds": 0.5})
    {'train/loss': 2.0, 'train/padding': 0.0625, 'machine/tokens_a_second': 960.0}
    >>> scalars({"step": 3, "epoch": 0.5, "valid_loss": 2.0})
    {'valid/loss': 2.0}
    """
    if "loss" not in row:
        return {
            key.replace("valid_", "valid/", 1): value
            for key, value in row.items()
            if key.startswith("valid_")
        }
    found = {tag: row[key] for key, tag in TAGS.items() if key in row}
    if row.get("slots"):
        found["train/padding"] = 1 - row["tokens"] / row["slots"]
    if row.get("seconds"):
        found["machine/tokens_a_second"] = row["tokens"] / row["seconds"]
    return found


@contextlib.contextmanager
def event_files(folder: Path | None) -> Iterator[Tell]:
    """A function that adds a row of the history to an event file in `folder`, which it makes.

    Without a folder it does nothing.

    Raises:
      UsageError: the library for it is not installed.
      DataError: the folder cannot be written.
    """
    if folder is None:
        yield lambda row: None
        return
    check_tensorboard()
    import tensorboardX

    try:
        writer = tensorboardX.SummaryWriter(str(folder), write_to_disk=True)
    except OSError as error:
        what = f"cannot write {folder}: {error.strerror or error}"
        raise DataError(what, "a folder that can be written") from None

    def tell(row: Mapping[str, float]) -> None:
        for tag, value in scalars(row).items():
            writer.add_scalar(tag, value, int(row["step"]))

    try:
        yield tell
    finally:
        writer.close()

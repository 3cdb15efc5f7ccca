"""The state of an unfinished run on disk, so that a run that was cut off goes on as if it had not.

A checkpoint is a folder `step-00000120`, written beside its place and renamed: it is there whole
or not at all. The newest that is whole counts, the one before it is kept for the day the newest is
damaged. In it:

- `state/`: the leaves of the state by their paths, as Orbax writes them;
- `best/`: those of the best tree, if there is one yet;
- `record.json`: the rest of the record, and the identity of the run;
- `sums.json`: the SHA-256 of every other file, for Orbax does not always notice a flipped bit.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.atomic import new_folder
from gemkit.errors import CheckpointError, GemkitError, UsageError
from gemkit.train.loop import Record
from gemkit.train.orbax import load_arrays, save_arrays
from gemkit.train.step import TrainState

KEPT = 2
SECONDS = 120.0
_STATE, _BEST, _RECORD, _SUMS = "state", "best", "record.json", "sums.json"


class Checkpoints:
    """A `train.loop.Keeper` in a folder.

    Args:
      folder: made when the first checkpoint is written.
      identity: what must be the same for a run to go on: model, data, settings; JSON values.
      every: steps between checkpoints; None goes by time, every `seconds`.
      resume: bring back what is there; without it nothing is read.
      tell: called with a line about what went wrong or was found.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], every: int | None = None,
        resume: bool = False, tell: Callable[[str], None] = lambda line: None,
        seconds: float = SECONDS,
    ) -> None:  # fmt: skip
        if every is not None and every < 1:
            raise UsageError(f"checkpoint_every is {every}", "at least 1 step")
        self.folder, self._every, self._resume, self._tell = folder, every, resume, tell
        self._identity = json.loads(json.dumps(identity))
        self._seconds, self._saved = seconds, time.monotonic()

    def due(self, step: int, ends: bool) -> bool:
        """After every interval, and at the end of a run that keeps its last state."""
        if self._every is not None:
            return ends or step % self._every == 0
        return time.monotonic() - self._saved >= self._seconds

    def save(self, state: TrainState, record: Record) -> None:
        """Writes a checkpoint; where the disk refuses, says so and leaves the older ones."""
        leaves = _leaves(state)
        best = None if record.best is None else _leaves(record.best)
        needed = sum(a.nbytes for tree in (leaves, best or {}) for a in tree.values())
        try:
            with new_folder(
                self.folder / f"step-{int(state.step):08d}", CheckpointError, needed
            ) as made:
                self._write(made, leaves, best, record)
        except GemkitError as error:
            self._tell(f"no checkpoint at step {int(state.step)}: {error}; training goes on")
        else:
            self._forget(KEPT)
        self._saved = time.monotonic()

    def load(self, like: TrainState) -> tuple[TrainState, Record] | None:
        """The newest checkpoint that is whole.

        Raises:
          UsageError: it is of another model, other data or other settings.
        """
        if not self._resume:
            return None
        for left in self.folder.glob(".*.partial*"):
            shutil.rmtree(left, ignore_errors=True)
        for place in reversed(self._places()):
            try:
                found = self._read(place, like)
            except CheckpointError as error:
                self._tell(f"{error}; looking for the one before it")
                shutil.rmtree(place, ignore_errors=True)
            else:
                self._tell(f"going on after step {int(found[0].step)}")
                return found
        self._tell(f"{self.folder} holds no checkpoint; starting from the beginning")
        return None

    def finish(self, keep: bool) -> None:
        """Leaves the last checkpoint only, or with `keep` false none."""
        if keep:
            self._forget(1)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _places(self) -> list[Path]:
        return sorted(self.folder.glob("step-????????"))

    def _forget(self, kept: int) -> None:
        for place in self._places()[:-kept]:
            shutil.rmtree(place, ignore_errors=True)

    def _write(
        self, made: Path, leaves: Mapping[str, Any], best: Mapping[str, Any] | None, record: Record
    ) -> None:
        save_arrays(made / _STATE, leaves)
        linked = {} if best is None else self._linked(made, record)
        if best is not None and not linked:
            save_arrays(made / _BEST, best)
        told = {**_fields(record), "identity": self._identity}
        (made / _RECORD).write_text(json.dumps(told), encoding="utf-8")
        (made / _SUMS).write_text(json.dumps(_digests(made, linked)), encoding="utf-8")

    def _linked(self, made: Path, record: Record) -> dict[str, str]:
        """The best tree again, if the last checkpoint has it: second names cost no room.

        Returns the digests of then: those of now would make good what was damaged meanwhile.
        """
        try:
            last = self._places()[-1]
            if json.loads((last / _RECORD).read_text("utf-8"))["best_step"] != record.best_step:
                return {}
            sums = json.loads((last / _SUMS).read_text("utf-8"))
            shutil.copytree(last / _BEST, made / _BEST, copy_function=os.link)
            return {name: sums[name] for name in _files(made) if name.startswith(f"{_BEST}/")}
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            shutil.rmtree(made / _BEST, ignore_errors=True)
            return {}

    def _read(self, place: Path, like: TrainState) -> tuple[TrainState, Record]:
        try:
            sums = json.loads((place / _SUMS).read_text("utf-8"))
            found = _digests(place, {})
            for name in sorted({*sums, *found}):
                if sums.get(name) != found.get(name):
                    raise ValueError(f"{name} is not what was written")
            told = json.loads((place / _RECORD).read_text("utf-8"))
            leaves = load_arrays(place / _STATE)
            best = load_arrays(place / _BEST) if (place / _BEST).is_dir() else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{place} is damaged: {error}") from None
        self._check(place, told.pop("identity"))
        state = jax.tree.map(_placed, _tree(place, leaves, like), like)
        told["best_value"] = tuple(told["best_value"])
        record = Record(**told)
        if best is not None:
            record.best = _tree(place, best, like.trained)
        return state, record

    def _check(self, place: Path, identity: Mapping[str, Any]) -> None:
        names = [*identity, *(name for name in self._identity if name not in identity)]
        for name in names:
            then, now = identity.get(name), self._identity.get(name)
            if then != now:
                raise UsageError(
                    f"{place} is of a run whose {name} was {_short(then)}, now {_short(now)}",
                    "the same model, data and settings",
                    "resume with those, or name another run directory",
                )  # fmt: skip


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fields(record: Record) -> dict[str, Any]:
    named = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    return {name: value for name, value in named.items() if name != "best"}


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _leaves(tree: Any) -> dict[str, Any]:
    """Path → array of every leaf with items (Orbax takes no other); random keys as their data."""
    return {
        jax.tree_util.keystr(path): jax.random.key_data(leaf) if _is_key(leaf) else leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if leaf.size
    }


def _tree(place: Path, leaves: Mapping[str, Any], like: Any) -> Any:
    """The leaves in the structure of `like`, on the host; random keys as their data."""

    def leaf(path: Any, old: Any) -> Any:
        name = jax.tree_util.keystr(path)
        wanted = jax.random.key_data(old) if _is_key(old) else old
        new = leaves.get(name) if wanted.size else np.asarray(wanted)
        if new is None or new.shape != wanted.shape or new.dtype != wanted.dtype:
            raise UsageError(
                f"{place} was written by another optimizer or adapter ({name} does not fit)",
                "the same settings", "resume with those, or name another run directory",
            )  # fmt: skip
        return new

    return jax.tree_util.tree_map_with_path(leaf, like)


def _placed(new: Any, old: Any) -> Any:
    """An array where the old one is."""
    if _is_key(old):
        new = jax.random.wrap_key_data(new)
    fixed = isinstance(old, jax.Array) and old.committed
    return jax.device_put(new, old.sharding if fixed else None)


def _files(folder: Path) -> dict[str, Path]:
    """Path in the folder → file, of all that a checkpoint has sums of."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {name: file for file in files if (name := file.relative_to(folder).as_posix()) != _SUMS}


def _digests(folder: Path, known: Mapping[str, str]) -> dict[str, str]:
    """Path in the folder → SHA-256, for the files whose digest is not known already."""

    def digest(file: Path) -> str:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    return {name: known.get(name) or digest(file) for name, file in _files(folder).items()}

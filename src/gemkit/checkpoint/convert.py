"""From any format to any other, a tensor at a time, with a proof that it is the same model."""

import contextlib
import dataclasses
import functools
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gemkit.adapt.lora import merge
from gemkit.checkpoint.formats import format_row
from gemkit.checkpoint.load import (
    checked_cells,
    notes,
    opened,
    passing_leaf,
    read_leaf,
    stored_dtype,
)
from gemkit.checkpoint.names import SAME
from gemkit.checkpoint.parity import Parity, compare, probe_logits
from gemkit.checkpoint.report import Report
from gemkit.checkpoint.save import save_leaves
from gemkit.errors import CheckpointError
from gemkit.model.config import GemmaConfig
from gemkit.model.linear import merged
from gemkit.model.weights import Params, flatten
from gemkit.text.tokenizer import Tokenizer

Progress = Callable[[int, int], None]

# Largest difference, as a share of the largest logit, that storing in a dtype explains: far more
# than rounding makes, far less than a tensor in the wrong place.
EXPLAINED = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.3}


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What was done, and the proof.

    Attributes:
      report: tensors loaded, converted, unused.
      title: the format written.
      remarks: what the format cannot say, or chose.
      parity: the written model, read back, against the source.
    """

    report: Report
    title: str
    remarks: tuple[str, ...]
    parity: Parity

    def __str__(self) -> str:
        return "\n".join([f"{self.report} → {self.title}", *self.remarks, str(self.parity)])


def convert(
    source: Path, target: Path, format: str, dtype: str | None = None,
    progress: Progress | None = None,
) -> Conversion:  # fmt: skip
    """Writes the checkpoint at `source` as another format, while the source is probed.

    In memory are a layer and the embedding for the probe and a tensor or two to be written.

    Args:
      target: the new folder, or for "gguf" the new file.
      format: "hf", "keras", "flax" or "gguf".
      dtype: to store the weights as; None as they are. GGUF also knows "q8_0" and "q4_0".
      progress: called with (tensors handled, tensors to handle); each is read for the probe,
        written, and read back.

    Raises:
        CheckpointError, ConfigError, UsageError: as `load_checkpoint` and `save_checkpoint`; or
            what was written, read back, is another model. Nothing appears then.
    """
    title = format_row(format).title
    with opened(source) as (row, held):
        table = checked_cells(source, row, held)
        own = stored_dtype(row, held)
        tick = _ticks(progress, 3 * len(table))
        read, pass_on = (
            _reader(held.config, table, held.tensors.found, tick, way)
            for way in (read_leaf, passing_leaf)
        )
        vocabulary = held.tokenizer() if held.tokenizer is not None else None
        leaves = {path: functools.partial(pass_on, path, own) for path in table}
        with _beside(lambda path: read(path, own), held.config) as expected:
            remarks, proof = save_leaves(
                target, held.config, leaves, own, vocabulary, format, dtype,
                lambda written: _prove(
                    written, held.config, expected, (own, dtype or own), tick
                ),
            )  # fmt: skip
        changed = sum(
            cell.layout is not SAME or held.tensors.found[cell.name].dtype != (dtype or own)
            for cell, _ in table.values()
        )
        report = Report(row.title, len(table), changed, held.tensors.unused, notes(row, held))
    if vocabulary is None:
        remarks = (*remarks, f"{source} has no tokenizer, so {target} has none")
    return _conversion(report, title, remarks, proof)


def save_merged(
    target: Path, config: GemmaConfig, params: Params, tokenizer: Tokenizer | None,
    format: str, dtype: str | None = None, progress: Progress | None = None,
) -> Conversion:  # fmt: skip
    """Writes a model in memory, adapters merged into its weights, and proves it.

    Raises:
        CheckpointError, ConfigError, UsageError: as `save_checkpoint`, or what was written is
            another model than the one with its adapter apart.
    """
    leaves = dict(flatten(params))
    tick = _ticks(progress, 2 * len(leaves))
    expected = probe_logits(config, leaves.__getitem__)
    own = merged(leaves["embed"]).dtype.name
    plain = dict(flatten(merge(params)))

    def read(path: str) -> Any:
        tick()
        return plain[path]

    remarks, proof = save_leaves(
        target, config, {path: functools.partial(read, path) for path in plain}, own, tokenizer,
        format, dtype,
        lambda written: _prove(written, config, lambda: expected, (own, dtype or own), tick),
    )  # fmt: skip
    report = Report("adapter merged", len(plain), sum(plain[p] is not leaves[p] for p in plain))
    return _conversion(report, format_row(format).title, remarks, proof)


@contextlib.contextmanager
def _beside(
    read: Callable[[str], Any], config: GemmaConfig
) -> Iterator[Callable[[], np.ndarray]]:
    """Probes a model while others work; yields what waits for the logits.

    When they fail or are interrupted, the probe ends at the next leaf.
    """
    given_up = threading.Event()

    def wanted(path: str) -> Any:
        if given_up.is_set():
            raise CancelledError
        return read(path)

    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(probe_logits, config, wanted).result
        finally:
            given_up.set()


def _conversion(
    report: Report, title: str, remarks: tuple[str, ...], proof: "_Proof | None"
) -> Conversion:
    assert proof is not None  # save_leaves returns what the proof that it was given returned
    lost = ", ".join(proof.lost)
    more = (f"{title} does not keep {lost}: it is read back with the usual value",) if lost else ()
    return Conversion(report, title, (*remarks, *more), proof.parity)


class _Proof(NamedTuple):
    parity: Parity
    lost: tuple[str, ...]


def _prove(
    written: Path, config: GemmaConfig, expected: Callable[[], np.ndarray],
    dtypes: tuple[str, str], tick: Callable[[], None],
) -> _Proof:  # fmt: skip
    """Probes what was written and compares; `expected` may come later."""
    with opened(written) as (row, held):
        table = checked_cells(written, row, held)
        lost = tuple(
            field.name
            for field in dataclasses.fields(config)
            if getattr(config, field.name) != getattr(held.config, field.name)
        )
        kept = stored_dtype(row, held)
        read = _reader(held.config, table, held.tensors.found, tick)
        found = probe_logits(held.config, lambda path: read(path, kept))
    parity = compare(expected(), found)
    explained = max(EXPLAINED.get(dtype, math.inf) for dtype in dtypes)
    if not parity.difference <= explained * parity.largest:
        settings = f" and reads back with another {', '.join(lost)}" if lost else ""
        raise CheckpointError(
            f"what was written is another model: {parity}{settings}", "the same logits",
            "nothing was kept; please report this",
        )  # fmt: skip
    return _Proof(parity, lost)


def _reader(
    config: GemmaConfig, table: Any, found: Any, tick: Callable[[], None],
    way: Callable[..., Any] = read_leaf,
) -> Callable[[str, str], Any]:
    def read(path: str, dtype: str) -> Any:
        tick()
        cell, shape = table[path]
        return way(found[cell.name], cell, config, shape, dtype)

    return read


def _ticks(progress: Progress | None, total: int) -> Callable[[], None]:
    done, turn = itertools.count(1), threading.Lock()

    def tick() -> None:
        if progress is not None:
            with turn:  # two models may be read at a time
                progress(next(done), total)

    return tick

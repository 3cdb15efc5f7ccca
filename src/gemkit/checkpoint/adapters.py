"""Adapters in any format: read, written with proof, and compared.

The neutral form is that of `adapt/lora.py`. A format that keeps one scale for all matrices gets
the differences folded into `b`; what it cannot say at all is refused.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gemkit.adapt.lora import Adapter, Lora, attach, fitted
from gemkit.atomic import new_file, new_folder
from gemkit.checkpoint import parity
from gemkit.checkpoint.peft import lora as peft
from gemkit.errors import CheckpointError, ConfigError, UsageError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params, flatten


class Row(NamedTuple):
    """One format.

    Attributes:
      title: for people.
      suffix: what names of its files end in; "" for a folder.
      begins: the first bytes of its files.
    """

    title: str
    suffix: str = ""
    begins: bytes = b""


FORMATS: dict[str, Row] = {
    "peft": Row("PEFT adapter folder"),
    "keras": Row("Keras .lora.h5 file", ".lora.h5", b"\x89HDF\r\n\x1a\n"),
    "flax": Row("Flax adapter folder"),
    "gguf": Row("GGUF adapter file", ".gguf", b"GGUF"),
}
UNDERSTOOD = "a PEFT adapter folder, a Keras .lora.h5 file, a Flax adapter folder or a GGUF file"

# Larger differences, as a share of the largest value, are no rounding of float32.
_ROUNDING = 1e-4
_BLOCK_ROWS = 2048


@dataclasses.dataclass(frozen=True)
class UpdateParity:
    """How far two adapters' update matrices, scale * B A, are from each other.

    Attributes:
      difference: the largest between any two elements; with DoRA also of magnitudes.
      largest: the largest absolute element of the first adapter.
      matrices: how many there are in either.
    """

    difference: float
    largest: float
    matrices: int

    @property
    def relative(self) -> float:
        """The difference as a share of the largest element."""
        return self.difference / self.largest if self.largest else float(self.difference > 0)

    def __str__(self) -> str:
        if self.difference == 0:
            return f"{self.matrices} update matrices equal to the last bit"
        return (
            f"largest difference of {self.matrices} update matrices {self.difference:.2g} "
            f"(elements reach {self.largest:.3g})"
        )


@dataclasses.dataclass(frozen=True)
class AdapterConversion:
    """What `convert_adapter` did, and the proof.

    Attributes:
      source, target: titles of the formats.
      matrices: adapted matrices read and written.
      parameters: elements of the adapter read.
      notes: what the format written cannot say.
      parity: the adapter written, read back, against the one read.
    """

    source: str
    target: str
    matrices: int
    parameters: int
    notes: tuple[str, ...]
    parity: UpdateParity

    def __str__(self) -> str:
        head = (
            f"{self.source} → {self.target}: {self.matrices} matrices, "
            f"{self.parameters:,} parameters converted, 0 unused"
        )
        return "\n".join([head, *self.notes, str(self.parity)])


def recognise(path: Path) -> str:
    """The format, a key of FORMATS, of an adapter.

    Raises:
      CheckpointError: there is nothing, or nothing gemkit understands.
    """
    if not path.exists():
        raise CheckpointError(f"{path} does not exist", UNDERSTOOD)
    if peft.recognises(path):
        return "peft"
    if path.is_dir():
        from gemkit.checkpoint.flax import weights as flax

        if flax.recognises(path):
            return "flax"
        names = sorted(entry.name for entry in path.iterdir())
        listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        raise CheckpointError(f"{path} is no adapter; it holds {listed or 'nothing'}", UNDERSTOOD)
    begins = _begins(path)
    for name, row in FORMATS.items():
        if row.begins and begins.startswith(row.begins):
            return name
    todo = "a pickle could run any code; save it as safetensors" if begins[:2] == b"PK" else ""
    raise CheckpointError(f"{path} is no adapter gemkit knows", UNDERSTOOD, todo)


def _begins(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}", UNDERSTOOD) from error


def read_adapter(
    path: Path, config: GemmaConfig, base_hash: str | None = None
) -> tuple[Lora, Adapter]:  # fmt: skip
    """Reads an adapter of any format for this base.

    Args:
      path: the folder or file; its content says what it is.
      config: of the base model.
      base_hash: of the base's weights; compared where the format keeps one.

    Returns:
      Settings that fit the arrays (targets are their paths), and the arrays in float32.

    Raises:
      CheckpointError: nothing understood, damaged, or an adapter of another model.
      ConfigError: of a kind gemkit cannot apply.
    """
    return _read(recognise(path), path, config, base_hash)


def _read(
    format: str, path: Path, config: GemmaConfig, base_hash: str | None
) -> tuple[Lora, Adapter]:
    if format == "peft":
        return peft.read_adapter(path, config, base_hash)
    if format == "keras":
        from gemkit.checkpoint.keras import lora as keras_lora

        lora, adapter = keras_lora.read_adapter(path, config)
    elif format == "flax":
        from gemkit.checkpoint.flax import lora as flax_lora

        lora, adapter = flax_lora.read_adapter(path, config)
    else:
        from gemkit.checkpoint.gguf import lora as gguf_lora

        lora, adapter = gguf_lora.read_adapter(path, config, base_hash)
    return fitted(lora, adapter), adapter


def write_adapter(
    path: Path, format: str, config: GemmaConfig, lora: Lora, adapter: Adapter, *,
    approximate: bool = False, rank: int | None = None, base: str = "", base_hash: str = "",
) -> tuple[str, ...]:  # fmt: skip
    """Writes an adapter, reads it back and compares; it appears whole or not at all.

    Args:
      path: the new folder, or for "keras" and "gguf" the new file.
      format: "peft", "keras", "flax" or "gguf".
      config: of the base model.
      lora: settings; ranks are those of the arrays.
      adapter: path → a [R, in], b [R, out], with DoRA m [out].
      approximate: let Keras, whose heads share B, keep only what is nearest.
      rank: of a Keras file; by default what is needed, at most the adapter's own.
      base: name or path of the base; PEFT alone keeps it.
      base_hash: of the base's weights; PEFT and GGUF keep it.

    Returns:
      Remarks: what the format cannot say, and as the last one the parity.

    Raises:
      CheckpointError: the place is taken, the disk is full, or another adapter came back.
      ConfigError: what the format cannot say at all.
      UsageError: no such format, or not exact and not `approximate`.
    """
    keras = _Keras(approximate, rank)
    notes, proof = _write(path, format, config, lora, adapter, keras, base, base_hash)
    return (*notes, str(proof))


def convert_adapter(
    source: Path, target: Path, format: str, config: GemmaConfig, *,
    approximate: bool = False, rank: int | None = None, base: str = "", base_hash: str = "",
) -> AdapterConversion:  # fmt: skip
    """Writes the adapter at `source` in another format; arguments as for `write_adapter`.

    Raises:
      CheckpointError, ConfigError, UsageError: as `read_adapter` and `write_adapter`.
    """
    _check_place(target, _format_row(format))
    found = recognise(source)
    lora, adapter = _read(found, source, config, base_hash or None)
    keras = _Keras(approximate, rank)
    notes, proof = _write(target, format, config, lora, adapter, keras, base, base_hash)
    count = sum(leaf.size for pair in adapter.values() for leaf in pair.values())
    return AdapterConversion(
        FORMATS[found].title, FORMATS[format].title, len(adapter), count, notes, proof
    )


class _Keras(NamedTuple):
    """What is asked of a Keras file alone."""

    approximate: bool
    rank: int | None


def _write(
    path: Path, format: str, config: GemmaConfig, lora: Lora, adapter: Adapter,
    keras: _Keras, base: str, base_hash: str,
) -> tuple[tuple[str, ...], UpdateParity]:  # fmt: skip
    row = _format_row(format)
    _check_place(path, row)
    if keras.rank is not None and format != "keras":
        raise UsageError(f"a {row.title} keeps every matrix's own rank", "a rank for Keras only")
    if format != "peft":
        _check_plain(adapter, row.title)
    fresh = new_file if row.suffix else new_folder
    with fresh(path, CheckpointError) as unfinished:
        if format == "peft":
            peft.write_adapter(unfinished, config, lora, adapter, base, base_hash)
            notes = []
        else:
            notes = _write_plain(unfinished, format, config, lora, adapter, keras, base_hash)
        back = _read(format, unfinished, config, None)
        proof = compare((lora, adapter), back)
        if proof.relative > _ROUNDING and not keras.approximate:
            raise CheckpointError(
                f"what was written is another adapter: {proof}", "the same update matrices",
                "nothing was kept; please report this",
            )  # fmt: skip
    return tuple(notes), proof


def _format_row(format: str) -> Row:
    if format not in FORMATS:
        raise UsageError(f"format is {format!r}", " or ".join(map(repr, FORMATS)))
    return FORMATS[format]


def _check_place(path: Path, row: Row) -> None:
    todo = "name another or delete it yourself"
    if row.suffix:
        if not path.name.endswith(row.suffix):
            wanted = f"one that ends in {row.suffix}"
            raise UsageError(f"{path} is no name for a {row.title}", wanted)
        if path.exists() or path.is_symlink():
            raise CheckpointError(f"{path} exists", f"a new {row.title}", todo)
    elif path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise CheckpointError(f"{path} is no empty folder", "a new or empty folder", todo)


def _check_plain(adapter: Adapter, title: str) -> None:
    if any("m" in pair for pair in adapter.values()):
        raise ConfigError(
            f"a {title} cannot say DoRA's magnitudes", "a plain LoRA adapter",
            "merge it into the model instead",
        )  # fmt: skip


def _write_plain(
    target: Path, format: str, config: GemmaConfig, lora: Lora, adapter: Adapter,
    keras: _Keras, base_hash: str,
) -> list[str]:  # fmt: skip
    unsaid = [("dropout", lora.dropout > 0)]
    if format == "gguf":
        from gemkit.checkpoint.gguf import lora as gguf_lora

        notes = list(gguf_lora.write_adapter(target, config, lora, adapter, base_hash))
    elif format == "flax":
        from gemkit.checkpoint.flax import lora as flax_lora

        flax_lora.write_adapter(target, config, *one_scale(lora, adapter))
        notes, unsaid = [], [*unsaid, ("hash of the base", bool(base_hash))]
    else:
        from gemkit.checkpoint.keras import lora as keras_lora

        lost = keras_lora.write_adapter(target, config, lora, adapter, *keras)
        hint = keras_lora.loading_hint(adapter)
        notes = [f"{lost:.2%} of the update is lost, as all heads share one B"] * (lost > 0)
        notes += [hint] if hint else []
        unsaid = [*unsaid, ("hash of the base", bool(base_hash))]
    title = FORMATS[format].title
    return [*notes, *(f"a {title} does not keep the {what}" for what, there in unsaid if there)]


def one_scale(lora: Lora, adapter: Adapter) -> tuple[Lora, Adapter]:
    """The same updates with one scale for all matrices: where another held, `b` takes it in."""
    scale = lora.scale
    factors = {path: lora.scale_of(path) / scale for path in adapter}
    return Lora(lora.rank, scale * lora.rank, tuple(adapter), lora.dropout), {
        path: {"a": pair["a"], "b": pair["b"] if factors[path] == 1 else pair["b"] * factors[path]}
        for path, pair in adapter.items()
    }


def compare(first: tuple[Lora, Adapter], second: tuple[Lora, Adapter]) -> UpdateParity:
    """Update matrices of two adapters, element by element; one that lacks a matrix has zeros."""
    difference = largest = 0.0
    paths = list(dict.fromkeys([*first[1], *second[1]]))
    for path in paths:
        for ours, theirs in zip(_pieces(first, second, path), _pieces(second, first, path),
                                strict=True):  # fmt: skip
            difference = max(difference, float(np.abs(ours - theirs).max()))
            largest = max(largest, float(np.abs(ours).max()))
    return UpdateParity(difference, largest, len(paths))


def compare_logits(
    config: GemmaConfig, params: Params, first: tuple[Lora, Adapter], second: tuple[Lora, Adapter]
) -> parity.Parity:
    """Logits on a probe of one base under two adapters."""
    found = []
    for lora, adapter in (first, second):
        leaves = dict(flatten(attach(params, adapter, lora)))
        found.append(parity.probe_logits(config, leaves.__getitem__))
    return parity.compare(*found)


def _pieces(
    one: tuple[Lora, Mapping[str, Any]], other: tuple[Lora, Mapping[str, Any]], path: str
) -> Iterator[np.ndarray]:
    """The update by blocks of rows, then the magnitudes; zeros where there is none."""
    lora, pair, like = one[0], one[1].get(path), other[1].get(path)
    shape = pair or like
    assert shape is not None
    rows, columns = shape["b"].shape[1], shape["a"].shape[1]
    for start in range(0, rows, _BLOCK_ROWS):
        stop = min(rows, start + _BLOCK_ROWS)
        if pair is None:
            yield np.zeros((stop - start, columns), np.float32)
        else:
            update = np.asarray(pair["b"])[:, start:stop].T @ np.asarray(pair["a"])
            yield lora.scale_of(path) * update
    if "m" in (pair or {}) or "m" in (like or {}):
        yield np.asarray((pair or {}).get("m", np.zeros(rows, np.float32)))

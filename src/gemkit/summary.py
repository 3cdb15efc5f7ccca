"""A model as a table for people: layers, shapes, parameters, memory."""

import dataclasses
from collections.abc import Iterator

from gemkit.adapt.lora import Lora, adapter_sizes, count_adapter
from gemkit.adapt.quantize import quantized_bytes
from gemkit.model.cache import cache_bytes
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import count_parameters, specs


@dataclasses.dataclass(frozen=True)
class Facts:
    """The figures of a summary, for programs; parameters are counts, the rest bytes."""

    parameters: int
    trainable: int
    frozen: int
    weight_bytes: int
    adapter_bytes: int
    cache_bytes_per_token: int


def facts(
    config: GemmaConfig, itemsize: int, lora: Lora | None, quantize: str | None = None
) -> Facts:
    """Counts and sizes; without LoRA everything counts as trainable, as Keras counts it.

    With `quantize`, the weights are in few bits, see `adapt.quantize`.
    """
    base = count_parameters(config)
    adapter = count_adapter(config, lora) if lora is not None else 0
    return Facts(
        parameters=base + adapter, trainable=adapter if lora else base,
        frozen=base if lora else 0, adapter_bytes=4 * adapter,
        weight_bytes=quantized_bytes(config, quantize, itemsize) if quantize else base * itemsize,
        cache_bytes_per_token=cache_bytes(config, 1, 1, itemsize),
    )  # fmt: skip


def summary_table(
    name: str, config: GemmaConfig, itemsize: int, lora: Lora | None, quantize: str | None = None
) -> str:
    """The table as text.

    Layers that are alike share a row of the table; T is the number of tokens. With LoRA, a column
    counts what it adds, in PEFT's form: every target has an A [R, in] and a B [out, R].
    """
    rows = [("layer", "output shape", "parameters", "LoRA" if lora else "")]
    rows += [
        (layer, shape, f"{count:,}" if count else "", f"{extra:,}" if extra else "")
        for layer, shape, count, extra in _rows(config, lora)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [f"Model: {name}", ""]
    for number, row in enumerate(rows):
        cells = [f"{row[0]:<{widths[0]}}", f"{row[1]:<{widths[1]}}"]
        cells += [f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join(cells).rstrip())
        if number == 0:
            lines.append("─" * len("  ".join(cells)))
    lines += ["", *_totals(config, facts(config, itemsize, lora, quantize))]
    return "\n".join(lines)


def human_bytes(count: float) -> str:
    """A size as people read it, in binary units.

    >>> human_bytes(5_012_344_832)
    '4.67 GiB'
    """
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} B" if unit == "B" else f"{size:.2f} {unit}"


def _rows(config: GemmaConfig, lora: Lora | None) -> Iterator[tuple[str, str, int, int]]:
    table = specs(config)
    adapted = adapter_sizes(config, lora) if lora is not None else {}
    sizes = {path: (spec.size, adapted.get(path, 0)) for path, spec in table.items()}
    yield "embed (tied with the head)", f"(T, {config.hidden_size})", *sizes["embed"]
    layers = config.num_layers
    first = [path for path in table if path.startswith("layers.0.")]
    yield f"{layers} decoder blocks, together:", f"(T, {config.hidden_size})", 0, 0
    for path in first:
        short = path.removeprefix("layers.0.")
        alike = [sizes[path.replace(".0.", f".{i}.", 1)] for i in range(layers)]
        shape = f"(T, {table[path].shape[0]})"
        if short.endswith("norm"):
            shape = f"(T, {config.head_dim if 'attn.' in short else config.hidden_size})"
        mark = f"  {short}"
        yield mark, shape, sum(a for a, _ in alike), sum(b for _, b in alike)
    yield "final_norm", f"(T, {config.hidden_size})", *sizes["final_norm"]


def _totals(config: GemmaConfig, f: Facts) -> Iterator[str]:
    yield f"Total parameters:     {f.parameters:>16,}  ({human_bytes(f.weight_bytes)})"
    yield f"Trainable parameters: {f.trainable:>16,}"
    yield f"Frozen parameters:    {f.frozen:>16,}"
    windows = sum(kind == "local" for kind in config.layer_kinds)
    note = f", {windows} of {config.num_layers} layers see {config.sliding_window} tokens"
    yield f"Context: {config.max_positions:,} tokens{note if windows else ''}"
    yield f"Key/value cache: {human_bytes(f.cache_bytes_per_token)} a token"

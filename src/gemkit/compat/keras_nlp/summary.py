"""The tables that Keras prints of a model."""

import dataclasses
import io
import math
from collections.abc import Sequence

from gemkit.adapt.lora import Lora, count_adapter
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import specs

LINE_LENGTH = 108


@dataclasses.dataclass(frozen=True)
class Counts:
    """Parameters and their bytes: of the base, of the adapter, of the optimizer's memory.

    `adapted` tells that there is an adapter, and so that the base is frozen.
    """

    base: int
    base_bytes: int
    adapter: int = 0
    optimizer: int = 0
    adapted: bool = False


Rows = Sequence[tuple[str, ...]]
_COLUMNS = (("Layer (type)", "left"), ("Output Shape", "left"), ("Param #", "right"),
            ("Connected to", "left"))  # fmt: skip
_WIDTHS = (0.3, 0.56, 0.74, 1.0)


def backbone_rows(config: GemmaConfig, lora: Lora | None, kind: str) -> Rows:
    """The layers of a backbone; `kind` begins the name of its blocks' class."""
    shape, table = f"(None, None, {config.hidden_size})", config.vocab_size * config.hidden_size
    sizes = {path: math.prod(spec.shape) for path, spec in specs(config).items()}
    adapter = count_adapter(config, lora) // config.num_layers if lora is not None else 0
    rows = [
        ("token_ids (InputLayer)", "(None, None)", "0", "-"),
        ("token_embedding (ReversibleEmbedding)", shape, f"{table:,}", "token_ids[0][0]"),
        ("multiply (Multiply)", shape, "0", "token_embedding[0][0]"),
        ("padding_mask (InputLayer)", "(None, None)", "0", "-"),
    ]
    before = "multiply"
    for layer in range(config.num_layers):
        own = sum(n for path, n in sizes.items() if path.startswith(f"layers.{layer}."))
        rows.append((
            f"decoder_block_{layer} ({kind}DecoderBlock)", shape, f"{own + adapter:,}",
            f"{before}[0][0], padding_mask[0][0]",
        ))  # fmt: skip
        before = f"decoder_block_{layer}"
    norm = f"{config.hidden_size:,}"
    return [*rows, ("final_normalization (RMSNormalization)", shape, norm, f"{before}[0][0]")]


def model_table(name: str, rows: Rows, counts: Counts, line_length: int | None = None) -> str:
    """Layers, their shapes and parameters, and the totals."""
    length = line_length or LINE_LENGTH
    ends = [int(part * length) for part in _WIDTHS]
    widths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    columns = [(*column, width) for column, width in zip(_COLUMNS, widths, strict=True)]
    adapter_bytes = 4 * counts.adapter
    trainable = (counts.adapter, adapter_bytes)
    frozen = (counts.base, counts.base_bytes)
    if not counts.adapted:
        trainable, frozen = frozen, (0, 0)
    totals = [
        ("Total", counts.base + counts.adapter + counts.optimizer,
         counts.base_bytes + adapter_bytes + 4 * counts.optimizer),
        ("Trainable", *trainable), ("Non-trainable", *frozen),
    ]  # fmt: skip
    if counts.optimizer:
        totals.append(("Optimizer", counts.optimizer, 4 * counts.optimizer))
    lines = [f" {kind} params: {count:,} ({_size(size)})" for kind, count, size in totals]
    return "\n".join([f'Model: "{name}"', _drawn(columns, rows, length), *lines])


def preprocessor_table(
    name: str, tokenizer: str, vocabulary: int, line_length: int | None = None
) -> str:
    """The tokenizer and the size of its vocabulary."""
    length = line_length or LINE_LENGTH
    columns = [("Layer (type)", "left", int(0.6 * length)), ("Config", "right", int(0.4 * length))]
    rows = [(tokenizer, f"Vocab size: {vocabulary:,}")]
    return f'Preprocessor: "{name}"\n{_drawn(columns, rows, length)}'


def _drawn(columns: Sequence[tuple[str, str, int]], rows: Rows, length: int) -> str:
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(
        *(Column(title, justify=side, width=width) for title, side, width in columns),  # type: ignore[arg-type]
        width=length, show_lines=True,
    )  # fmt: skip
    for row in rows:
        table.add_row(*row)
    out = io.StringIO()
    Console(file=out, width=length, highlight=False, markup=False, color_system=None).print(table)
    return out.getvalue().rstrip("\n")


def _size(count: float) -> str:
    """Bytes as Keras writes them: steps of 1,024, decimal units' names.

    >>> _size(10_024_689_664)
    '9.34 GB'
    """
    for unit in ("B", "KB", "MB", "GB", "TB", "PB"):
        if count < 1024 or unit == "PB":
            break
        count /= 1024
    return f"{count:.2f} {unit}"

"""The names table: each parameter's name and layout in every checkpoint format, both ways.

A column holds a name without the prefix that varies between files of one format (`model.`,
`layers/`); readers and writers add it. `*` stands for the layer. Sources: the converters of
keras-hub (`utils/transformers/convert_gemma*.py`) and transformers (`convert_gemma*.py`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from gemkit.model.config import GemmaConfig
from gemkit.model.weights import specs

Format = Literal["hugging_face", "keras"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a format arranges a matrix, for arrays of numpy and JAX alike.

    On numpy arrays both ways are views where there can be one; JAX rearranges faster.

    Attributes:
      name: for messages.
      load: (stored array, head_dim) → array in the weights table's layout.
      store: (array in the weights table's layout, head_dim) → array to store.
    """

    name: str
    load: Callable[[Any, int], Any]
    store: Callable[[Any, int], Any]


def _join_input_heads(stored: Any, head_dim: int) -> Any:
    return stored.transpose(0, 2, 1).reshape(-1, stored.shape[1])


def _split_input_heads(matrix: Any, head_dim: int) -> Any:
    return matrix.reshape(-1, head_dim, matrix.shape[1]).transpose(0, 2, 1)


def _join_output_heads(stored: Any, head_dim: int) -> Any:
    return stored.reshape(-1, stored.shape[2]).T


def _split_output_heads(matrix: Any, head_dim: int) -> Any:
    return matrix.T.reshape(-1, head_dim, matrix.shape[0])


SAME = Layout("same", lambda stored, _: stored, lambda matrix, _: matrix)
TRANSPOSED = Layout("transposed", lambda stored, _: stored.T, lambda matrix, _: matrix.T)
# (N, D, H) ↔ (N*H, D), and K likewise
INPUT_HEADS = Layout("input heads", _join_input_heads, _split_input_heads)
# (N, H, D) ↔ (D, N*H)
OUTPUT_HEADS = Layout("output heads", _join_output_heads, _split_output_heads)

LAYOUTS = (SAME, TRANSPOSED, INPUT_HEADS, OUTPUT_HEADS)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One parameter in one format."""

    name: str
    layout: Layout = SAME


@dataclasses.dataclass(frozen=True)
class Row:
    """One parameter in all formats; `post_norms` limits the row to models with or without."""

    path: str
    hugging_face: Cell
    keras: Cell
    post_norms: bool | None = None


def _row(
    path: str, hugging_face: str, keras: str, layout: Layout = SAME, post_norms: bool | None = None
) -> Row:
    return Row(path, Cell(hugging_face), Cell(keras, layout), post_norms)


_HF = "layers.*."
_KERAS = "decoder_block*/"

TABLE: tuple[Row, ...] = (
    _row("embed", "embed_tokens.weight", "reversible_embedding/vars/0"),
    _row("layers.*.pre_attn_norm", _HF + "input_layernorm.weight",
         _KERAS + "pre_attention_norm/vars/0"),
    _row("layers.*.attn.q", _HF + "self_attn.q_proj.weight",
         _KERAS + "attention/query_dense/vars/0", INPUT_HEADS),
    _row("layers.*.attn.k", _HF + "self_attn.k_proj.weight",
         _KERAS + "attention/key_dense/vars/0", INPUT_HEADS),
    _row("layers.*.attn.v", _HF + "self_attn.v_proj.weight",
         _KERAS + "attention/value_dense/vars/0", INPUT_HEADS),
    _row("layers.*.attn.o", _HF + "self_attn.o_proj.weight",
         _KERAS + "attention/output_dense/vars/0", OUTPUT_HEADS),
    _row("layers.*.attn.q_norm", _HF + "self_attn.q_norm.weight",
         _KERAS + "attention/query_norm/vars/0"),
    _row("layers.*.attn.k_norm", _HF + "self_attn.k_norm.weight",
         _KERAS + "attention/key_norm/vars/0"),
    _row("layers.*.post_attn_norm", _HF + "post_attention_layernorm.weight",
         _KERAS + "post_attention_norm/vars/0", post_norms=True),
    # Gemma 1 in Hugging Face's words: the norm that follows attention is the MLP's input norm.
    _row("layers.*.pre_ffw_norm", _HF + "post_attention_layernorm.weight",
         _KERAS + "pre_ffw_norm/vars/0", post_norms=False),
    _row("layers.*.pre_ffw_norm", _HF + "pre_feedforward_layernorm.weight",
         _KERAS + "pre_ffw_norm/vars/0", post_norms=True),
    _row("layers.*.mlp.gate", _HF + "mlp.gate_proj.weight",
         _KERAS + "gating_ffw/vars/0", TRANSPOSED),
    _row("layers.*.mlp.up", _HF + "mlp.up_proj.weight",
         _KERAS + "gating_ffw_2/vars/0", TRANSPOSED),
    _row("layers.*.mlp.down", _HF + "mlp.down_proj.weight",
         _KERAS + "ffw_linear/vars/0", TRANSPOSED),
    _row("layers.*.post_ffw_norm", _HF + "post_feedforward_layernorm.weight",
         _KERAS + "post_ffw_norm/vars/0", post_norms=True),
    _row("final_norm", "norm.weight", "rms_normalization/vars/0"),
)  # fmt: skip


def _keras_number(layer: int) -> str:
    return f"_{layer}" if layer else ""


# How each format writes the number of a layer.
_NUMBER: dict[Format, Callable[[int], str]] = {"hugging_face": str, "keras": _keras_number}


def cells(config: GemmaConfig, column: Format) -> dict[str, Cell]:
    """Path → name and layout of every parameter of a model, in the order of the forward pass.

    >>> from gemkit.model.variants import GEMMA_2B
    >>> cells(GEMMA_2B, "hugging_face")["layers.3.pre_ffw_norm"].name
    'layers.3.post_attention_layernorm.weight'
    """
    rows: dict[str, Cell] = {
        row.path: getattr(row, column)
        for row in TABLE
        if row.post_norms in (None, config.post_norms)
    }
    found = {}
    for path in specs(config):
        layer = path.split(".")[1] if path.startswith("layers.") else ""
        cell = rows[path.replace(f".{layer}.", ".*.", 1) if layer else path]
        number = _NUMBER[column](int(layer)) if layer else ""
        found[path] = Cell(cell.name.replace("*", number), cell.layout)
    return found


def stored_shape(layout: Layout, shape: tuple[int, ...], head_dim: int) -> tuple[int, ...]:
    """The shape in the file of a parameter with this shape in the weights table.

    >>> stored_shape(INPUT_HEADS, (8 * 256, 2048), 256)
    (8, 2048, 256)
    """
    stored: np.ndarray = layout.store(np.broadcast_to(np.int8(0), shape), head_dim)
    return stored.shape

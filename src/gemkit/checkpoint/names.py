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

Format = Literal["hugging_face", "keras", "flax", "gguf"]


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


def _minus_one(stored: Any, _: int) -> Any:
    return stored.astype(np.float32) - 1


def _plus_one(scale: Any, _: int) -> Any:
    # bfloat16 near one is too coarse for scales near zero.
    return scale.astype(np.float32) + 1


SAME = Layout("same", lambda stored, _: stored, lambda matrix, _: matrix)
TRANSPOSED = Layout("transposed", lambda stored, _: stored.T, lambda matrix, _: matrix.T)
# (N, D, H) ↔ (N*H, D), and K likewise
INPUT_HEADS = Layout("input heads", _join_input_heads, _split_input_heads)
# (N, H, D) ↔ (D, N*H)
OUTPUT_HEADS = Layout("output heads", _join_output_heads, _split_output_heads)

# Scales of norms that are stored with the one already added.
PLUS_ONE = Layout("plus one", _minus_one, _plus_one)

LAYOUTS = (SAME, TRANSPOSED, INPUT_HEADS, OUTPUT_HEADS, PLUS_ONE)


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
    flax: Cell
    gguf: Cell
    post_norms: bool | None = None


def _matrix(path: str, layout: Layout, hugging_face: str, keras: str, flax: str, gguf: str) -> Row:
    """`layout` is that of Keras and Flax; the other two store rows as the weights table does."""
    return Row(path, Cell(hugging_face), Cell(keras, layout), Cell(flax, layout), Cell(gguf))


def _norm(
    path: str, hugging_face: str, keras: str, flax: str, gguf: str, post_norms: bool | None = None
) -> Row:
    stored = Cell(gguf, PLUS_ONE)
    return Row(path, Cell(hugging_face), Cell(keras), Cell(flax), stored, post_norms)


# Flax keeps several matrices in one array; `#` numbers them.
TABLE: tuple[Row, ...] = (
    _matrix("embed", SAME, "embed_tokens.weight", "reversible_embedding/vars/0",
            "embedder/input_embedding", "token_embd.weight"),
    _norm("layers.*.pre_attn_norm", "layers.*.input_layernorm.weight",
          "decoder_block*/pre_attention_norm/vars/0", "layer_*/pre_attention_norm/scale",
          "blk.*.attn_norm.weight"),
    _matrix("layers.*.attn.q", INPUT_HEADS, "layers.*.self_attn.q_proj.weight",
            "decoder_block*/attention/query_dense/vars/0", "layer_*/attn/q_einsum/w",
            "blk.*.attn_q.weight"),
    _matrix("layers.*.attn.k", INPUT_HEADS, "layers.*.self_attn.k_proj.weight",
            "decoder_block*/attention/key_dense/vars/0", "layer_*/attn/kv_einsum/w#0",
            "blk.*.attn_k.weight"),
    _matrix("layers.*.attn.v", INPUT_HEADS, "layers.*.self_attn.v_proj.weight",
            "decoder_block*/attention/value_dense/vars/0", "layer_*/attn/kv_einsum/w#1",
            "blk.*.attn_v.weight"),
    _matrix("layers.*.attn.o", OUTPUT_HEADS, "layers.*.self_attn.o_proj.weight",
            "decoder_block*/attention/output_dense/vars/0", "layer_*/attn/attn_vec_einsum/w",
            "blk.*.attn_output.weight"),
    _norm("layers.*.attn.q_norm", "layers.*.self_attn.q_norm.weight",
          "decoder_block*/attention/query_norm/vars/0", "layer_*/attn/_query_norm/scale",
          "blk.*.attn_q_norm.weight"),
    _norm("layers.*.attn.k_norm", "layers.*.self_attn.k_norm.weight",
          "decoder_block*/attention/key_norm/vars/0", "layer_*/attn/_key_norm/scale",
          "blk.*.attn_k_norm.weight"),
    _norm("layers.*.post_attn_norm", "layers.*.post_attention_layernorm.weight",
          "decoder_block*/post_attention_norm/vars/0", "layer_*/post_attention_norm/scale",
          "blk.*.post_attention_norm.weight", post_norms=True),
    # Gemma 1 in Hugging Face's words: the norm that follows attention is the MLP's input norm.
    _norm("layers.*.pre_ffw_norm", "layers.*.post_attention_layernorm.weight",
          "decoder_block*/pre_ffw_norm/vars/0", "layer_*/pre_ffw_norm/scale",
          "blk.*.ffn_norm.weight", post_norms=False),
    _norm("layers.*.pre_ffw_norm", "layers.*.pre_feedforward_layernorm.weight",
          "decoder_block*/pre_ffw_norm/vars/0", "layer_*/pre_ffw_norm/scale",
          "blk.*.ffn_norm.weight", post_norms=True),
    Row("layers.*.mlp.gate", Cell("layers.*.mlp.gate_proj.weight"),
        Cell("decoder_block*/gating_ffw/vars/0", TRANSPOSED),
        Cell("layer_*/mlp/gating_einsum#0"), Cell("blk.*.ffn_gate.weight")),
    Row("layers.*.mlp.up", Cell("layers.*.mlp.up_proj.weight"),
        Cell("decoder_block*/gating_ffw_2/vars/0", TRANSPOSED),
        Cell("layer_*/mlp/gating_einsum#1"), Cell("blk.*.ffn_up.weight")),
    _matrix("layers.*.mlp.down", TRANSPOSED, "layers.*.mlp.down_proj.weight",
            "decoder_block*/ffw_linear/vars/0", "layer_*/mlp/linear", "blk.*.ffn_down.weight"),
    _norm("layers.*.post_ffw_norm", "layers.*.post_feedforward_layernorm.weight",
          "decoder_block*/post_ffw_norm/vars/0", "layer_*/post_ffw_norm/scale",
          "blk.*.post_ffw_norm.weight", post_norms=True),
    _norm("final_norm", "norm.weight", "rms_normalization/vars/0", "final_norm/scale",
          "output_norm.weight"),
)  # fmt: skip


def _keras_number(layer: int) -> str:
    return f"_{layer}" if layer else ""


# How each format writes the number of a layer.
_NUMBER: dict[Format, Callable[[int], str]] = {
    "hugging_face": str, "keras": _keras_number, "flax": str, "gguf": str,
}  # fmt: skip


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

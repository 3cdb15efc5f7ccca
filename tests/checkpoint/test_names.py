"""The names table, walked both ways for every generation."""

from typing import get_args

import numpy as np
import pytest

from gemkit.checkpoint.names import (
    INPUT_HEADS,
    LAYOUTS,
    OUTPUT_HEADS,
    PLUS_ONE,
    SAME,
    TABLE,
    TRANSPOSED,
    Format,
    cells,
    stored_shape,
)
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import specs

FORMATS: tuple[Format, ...] = get_args(Format)


@pytest.mark.parametrize("column", FORMATS)
def test_every_parameter_has_one_name_of_its_own(config: GemmaConfig, column: Format) -> None:
    table = cells(config, column)
    assert list(table) == list(specs(config))
    names = [cell.name for cell in table.values()]
    assert len(set(names)) == len(names)
    assert not any("*" in name for name in names)


@pytest.mark.parametrize("column", FORMATS)
def test_layouts_lead_there_and_back(config: GemmaConfig, column: Format) -> None:
    rng = np.random.default_rng(0)
    for path, cell in cells(config, column).items():
        # Binary fractions, to which one can be added without rounding.
        matrix = rng.integers(-2048, 2048, size=specs(config)[path].shape) / 1024
        stored = cell.layout.store(matrix, config.head_dim)
        assert stored.shape == stored_shape(cell.layout, matrix.shape, config.head_dim)
        assert np.array_equal(cell.layout.load(stored, config.head_dim), matrix), path


def test_every_row_and_layout_serves_some_generation(tiny: dict[str, GemmaConfig]) -> None:
    used = {
        (path if not path.startswith("layers.") else ".".join(["layers", "*", *rest]), cell)
        for config in tiny.values()
        for column in FORMATS
        for path, cell in cells(config, column).items()
        for rest in [path.split(".")[2:]]
        if ".0." in path or not path.startswith("layers.")
    }
    named = {(path, cell.layout.name) for path, cell in used}
    assert {row.path for row in TABLE} == {path for path, _ in used}
    assert {layout.name for layout in LAYOUTS} == {name for _, name in named}


def test_keras_shapes(tiny: dict[str, GemmaConfig]) -> None:
    config = tiny["gemma3"]  # N 4, K 2, D 24, H 8, F 40, V 320
    table = cells(config, "keras")
    shapes = {
        cell.name: stored_shape(cell.layout, specs(config)[path].shape, config.head_dim)
        for path, cell in table.items()
    }
    assert shapes["reversible_embedding/vars/0"] == (320, 24)
    block = "decoder_block_6/"
    assert shapes[block + "attention/query_dense/vars/0"] == (4, 24, 8)
    assert shapes[block + "attention/key_dense/vars/0"] == (2, 24, 8)
    assert shapes[block + "attention/output_dense/vars/0"] == (4, 8, 24)
    assert shapes[block + "attention/key_norm/vars/0"] == (8,)
    assert shapes[block + "gating_ffw_2/vars/0"] == (24, 40)
    assert shapes[block + "ffw_linear/vars/0"] == (40, 24)


def test_layers_are_numbered_as_each_format_does(tiny: dict[str, GemmaConfig]) -> None:
    for column, first, second in (
        ("hugging_face", "layers.0.mlp.up_proj.weight", "layers.1.mlp.up_proj.weight"),
        ("keras", "decoder_block/gating_ffw_2/vars/0", "decoder_block_1/gating_ffw_2/vars/0"),
        ("gguf", "blk.0.ffn_up.weight", "blk.1.ffn_up.weight"),
    ):
        table = cells(tiny["gemma2"], column)
        assert table["layers.0.mlp.up"].name == first
        assert table["layers.1.mlp.up"].name == second


def test_hugging_face_moved_a_name_between_gemma_1_and_2(tiny: dict[str, GemmaConfig]) -> None:
    name = "layers.0.post_attention_layernorm.weight"
    for generation, path in (
        ("gemma1", "layers.0.pre_ffw_norm"),
        ("gemma2", "layers.0.post_attn_norm"),
        ("gemma3", "layers.0.post_attn_norm"),
    ):
        assert cells(tiny[generation], "hugging_face")[path].name == name


def test_elements_of_head_layouts() -> None:
    n, h, d, head_dim, width = 2, 3, 4, 8, 24
    rng = np.random.default_rng(1)
    into, out = rng.normal(size=(4, width, head_dim)), rng.normal(size=(4, head_dim, width))
    assert INPUT_HEADS.load(into, head_dim)[n * head_dim + h, d] == into[n, d, h]
    assert OUTPUT_HEADS.load(out, head_dim)[d, n * head_dim + h] == out[n, h, d]


def test_layouts_are_views_where_numpy_can() -> None:
    matrix, heads = np.zeros((32, 24)), np.zeros((4, 8, 24))
    for layout, stored in ((SAME, matrix), (TRANSPOSED, matrix), (OUTPUT_HEADS, heads)):
        assert np.shares_memory(layout.load(stored, 8), stored)
    for layout in set(LAYOUTS) - {PLUS_ONE}:
        assert np.shares_memory(layout.store(matrix, 8), matrix)

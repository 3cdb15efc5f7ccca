"""Blocks of every type: equal to hand-made ones, to the library and to what went in."""

import ml_dtypes
import numpy as np
import pytest

from gemkit.checkpoint.gguf.blocks import CODES, TYPES, BlockType, decode, dtype_of, encode
from gemkit.errors import CheckpointError

QUANTISED = [kind for kind in TYPES.values() if not kind.dtype]
# Largest error as a share of a block's largest magnitude: half a step, and what rounding the
# scale to float16 adds. Q4_0 has steps from -8 to 7, so the other end may lose a whole one.
ERRORS = {"Q8_0": 0.57 / 127, "Q4_0": 1.01 / 8}


def kind(name: str) -> BlockType:
    return TYPES[CODES[name]]


def half(value: float) -> list[int]:
    return list(np.float16(value).tobytes())


def test_codes_and_sizes_are_those_of_the_library() -> None:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    for code, known in TYPES.items():
        theirs = GGMLQuantizationType(code)
        assert (theirs.name, GGML_QUANT_SIZES[theirs]) == (known.name, (known.values, known.nbytes))


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_plain_numbers_are_a_view(name: str) -> None:
    values = np.arange(12, dtype=dtype_of(kind(name))).reshape(3, 4)
    raw = encode(values, kind(name))
    assert raw.nbytes == 12 * kind(name).nbytes
    back = decode(raw, kind(name), (3, 4))
    assert back.dtype == values.dtype and np.array_equal(back, values)
    assert np.shares_memory(back, raw)


def test_plain_numbers_are_cast() -> None:
    values = np.float32([1.00390625, -2])
    assert decode(encode(values, kind("BF16")), kind("BF16"), (2,)).dtype == ml_dtypes.bfloat16
    assert np.array_equal(decode(encode(values, kind("F16")), kind("F16"), (2,)), values)


HAND_MADE: dict[str, tuple[list[int], dict[int, float]]] = {
    # element → value; all others of a block are the last's.
    "Q8_0": ([*half(0.5), *[3] * 31, 256 - 128], {0: 1.5, 31: -64.0}),
    "Q4_0": ([*half(2), 0x1F, *[0x88] * 15], {0: 14.0, 16: -14.0, 1: 0.0, 17: 0.0}),
    "Q4_1": ([*half(2), *half(-1), 0x1F, *[0x88] * 15], {0: 29.0, 16: 1.0, 1: 15.0}),
    "Q5_0": ([*half(1), 1, 0, 1, 0, 0x1F, *[0] * 15], {0: 15.0, 16: 1.0, 1: -16.0}),
    "Q5_1": ([*half(1), *half(3), 1, 0, 1, 0, 0x1F, *[0] * 15], {0: 34.0, 16: 20.0, 1: 3.0}),
    # Scales 6 bits: the first four in one byte each, their top bits those of the last four.
    "Q4_K": (
        [*half(1), *half(2), 0x42, 1, 1, 1, 0x83, 0, 0, 0, 0x51, 0, 0, 0, 0x21, *[0] * 127],
        {0: 1 * 2 - 2 * 3, 32: 2 * 1, 1: -6.0, 128: -2 * (5 | 2 << 4)},
    ),
    "Q5_K": (
        [*half(1), *half(0), 2, 1, *[0] * 10, 0b11, *[0] * 31, 0x21, *[0] * 127],
        {0: 2 * 17, 32: 1 * 18, 1: 0.0},
    ),
    "Q6_K": (
        [0x21, *[0] * 127, 0b0001, *[0] * 63, *[1] * 15, 255, *half(0.5)],
        {0: 0.5 * (17 - 32), 64: 0.5 * (2 - 32), 255: 16.0, 1: -16.0},
    ),
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_blocks_made_by_hand(name: str) -> None:
    block, expected = HAND_MADE[name]
    known = kind(name)
    assert len(block) == known.nbytes
    raw = np.tile(np.array(block, np.uint8), 6)
    values = decode(raw, known, (3, 2 * known.values))
    assert values.dtype == np.float32
    for element, value in expected.items():
        assert np.array_equal(values[:, element], [value] * 3), element
        assert np.array_equal(values[:, element + known.values], [value] * 3), element


def test_every_quantised_type_was_made_by_hand() -> None:
    assert set(HAND_MADE) == {known.name for known in QUANTISED}


@pytest.mark.parametrize("known", QUANTISED, ids=lambda known: known.name)
def test_many_rows_are_as_from_the_library(known: BlockType) -> None:
    """More than one part, the last of them short."""
    from gguf import GGMLQuantizationType, quants

    rows = 2**20 // 512 + 3
    size = rows * 512 // known.values * known.nbytes
    raw = np.random.default_rng(0).integers(0, 123, size).astype(np.uint8)
    with np.errstate(all="ignore"):
        code = GGMLQuantizationType[known.name]
        expected = quants.dequantize(raw.reshape(rows, -1), code)
    assert np.array_equal(decode(raw, known, (rows, 512)), expected, equal_nan=True)


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_quantised_as_by_the_library(name: str, dtype: type) -> None:
    """To the last bit, ties among bfloat16 numbers included; more than one part."""
    from gguf import GGMLQuantizationType, quants

    values = np.random.default_rng(1).normal(size=(2**20 // 64 + 5, 64)).astype(dtype)
    values[3] = 0
    expected = quants.quantize(values.astype(np.float32), GGMLQuantizationType[name])
    assert np.array_equal(encode(values, kind(name)), expected.reshape(-1))


@pytest.mark.parametrize("name", ERRORS)
def test_quantised_and_back(name: str) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(2**20 // 64 + 5, 64)).astype(np.float32)
    values[3] = 0
    raw = encode(values, kind(name))
    back = decode(raw, kind(name), values.shape)
    largest = np.abs(values.reshape(-1, 32)).max(1).repeat(32).reshape(values.shape)
    assert (np.abs(back - values) <= largest * ERRORS[name]).all()
    assert not back[3].any()
    assert np.array_equal(decode(encode(back, kind(name)), kind(name), values.shape), back)


@pytest.mark.parametrize("name", ERRORS)
def test_bfloat16_is_quantised_as_the_same_float32(name: str) -> None:
    values = np.random.default_rng(2).normal(size=(3, 64)).astype(ml_dtypes.bfloat16)
    assert np.array_equal(
        encode(values, kind(name)), encode(values.astype(np.float32), kind(name))
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_what_a_block_cannot_hold_is_refused(value: float) -> None:
    values = np.zeros((2, 32), np.float32)
    values[1, 7] = value
    for name in ERRORS:
        with pytest.raises(CheckpointError, match="a weight is .*float32"):
            encode(values, kind(name))


def test_a_damaged_scale_makes_no_warning() -> None:
    raw = np.full(kind("Q8_0").nbytes, 255, np.uint8)
    assert np.isnan(decode(raw, kind("Q8_0"), (1, 32))).all()

"""The container: what the library writes is read, and damage is always a clear error."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemkit.checkpoint.gguf.header import Array, read_header
from gemkit.errors import CheckpointError

Parts = dict[str, Any]
STRING, ARRAY, U32, BOOL, F32 = 8, 9, 4, 7, 6


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def entry(key: str | bytes, code: int, payload: bytes) -> bytes:
    return text(key) + struct.pack("<I", code) + payload


def tensor(name: str, sizes: list[int], code: int, offset: int) -> bytes:
    head = text(name) + struct.pack("<I", len(sizes))
    return head + struct.pack(f"<{len(sizes)}QIQ", *sizes, code, offset)


PARTS: Parts = {
    "magic": b"GGUF", "version": 3, "tensors": 2, "keys": 4,
    "metadata": [
        entry("general.name", STRING, text("tiny")),
        entry("size", U32, struct.pack("<I", 7)),
        entry("words", ARRAY, struct.pack("<IQ", STRING, 3) + text("a") + text("") + text("é")),
        entry("scores", ARRAY, struct.pack("<IQ2f", F32, 2, 0.5, -1)),
    ],
    "infos": [tensor("one", [32, 3], 0, 0), tensor("two", [32], 8, 384)],
    "data": bytes(384 + 34),
}  # fmt: skip


def container(**changes: Any) -> bytes:
    p = {**PARTS, **changes}
    head = io.BytesIO()
    head.write(p["magic"] + struct.pack("<IQQ", p["version"], p["tensors"], p["keys"]))
    head.write(b"".join([*p["metadata"], *p["infos"]]))
    head.write(bytes(-head.tell() % 32) + p["data"])
    return head.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], Path]:
    def make(content: bytes) -> Path:
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return path

    return make


@pytest.mark.parametrize("version", [2, 3])
def test_every_part_is_found(file: Callable[[bytes], Path], version: int) -> None:
    header = read_header(file(container(version=version)))
    assert header.values == {"general.name": "tiny", "size": 7}
    assert header.strings("words") == ["a", "", "é"]
    scores = header.numbers("scores")
    assert scores is not None and scores.tolist() == [0.5, -1]
    assert (header.strings("no"), header.numbers("no")) == (None, None)
    one, two = header.tensors["one"], header.tensors["two"]
    assert (one.shape, one.kind.name, one.nbytes) == ((3, 32), "F32", 384)
    assert (two.shape, two.kind.name, two.nbytes) == ((32,), "Q8_0", 34)
    assert two.start == one.start + 384 and two.start + 34 == len(header.data)


def test_all_types_of_metadata(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    path = tmp_path / "model.gguf"
    writer = GGUFWriter(path, "gemma")
    values = {
        "uint8": 255, "int8": -128, "uint16": 65535, "int16": -32768, "uint32": 2**32 - 1,
        "int32": -(2**31), "uint64": 2**64 - 1, "int64": -(2**63), "float32": 0.5,
        "float64": 1e300, "bool": True, "string": "ein Wörtchen",
    }  # fmt: skip
    for kind, value in values.items():
        getattr(writer, f"add_{kind}")(kind, value)
    for kind, array in {"bools": [True, False], "ints": [1, -2], "words": ["x", "y z"]}.items():
        writer.add_array(kind, array)
    writer.add_custom_alignment(64)
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    writer.add_tensor("a", rows)
    writer.add_tensor("b", rows.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_header(path)
    assert {key: header.values[key] for key in values} == values
    assert header.strings("words") == ["x", "y z"]
    found = {key: header.numbers(key) for key in ("bools", "ints")}
    assert {key: x.tolist() for key, x in found.items() if x is not None} == {
        "bools": [True, False], "ints": [1, -2],
    }  # fmt: skip
    for name, dtype in {"a": "<f4", "b": "<f2"}.items():
        info = header.tensors[name]
        assert info.start % 64 == 0 and info.shape == (2, 3)
        assert np.array_equal(np.frombuffer(header.data, dtype, 6, info.start), rows.ravel())


def test_arrays_are_not_taken_for_others(file: Callable[[bytes], Path]) -> None:
    header = read_header(file(container()))
    with pytest.raises(CheckpointError, match="scores is no array of strings"):
        header.strings("scores")
    with pytest.raises(CheckpointError, match="words is no array of numbers"):
        header.numbers("words")
    assert header.arrays["scores"] == Array(F32, 2, header.arrays["scores"].start)


HUGE = 2**63 + 5
WORDS = PARTS["metadata"][0]
DAMAGE: dict[str, tuple[Parts, str]] = {
    "magic": ({"magic": b"GGML"}, r"begins with b'GGML'"),
    "version 1": ({"version": 1}, "GGUF version 1"),
    "version 4": ({"version": 4}, "GGUF version 4"),
    "big-endian": ({"version": 3 << 24}, "version 3, written on a big-endian machine"),
    "tensor count": ({"tensors": HUGE}, "claims 9223372036854775813 tensors"),
    "key count": ({"keys": 100}, "claims 100 keys|not printable|needs"),
    "too few keys": ({"keys": 3}, "dimensions"),
    "key twice": ({"metadata": [WORDS, WORDS], "keys": 2}, "general.name is there twice"),
    "empty key": ({"metadata": [entry("", U32, bytes(4))], "keys": 1}, "not printable"),
    "long key": ({"metadata": [entry("k" * 999, U32, bytes(4))], "keys": 1}, "not printable"),
    "odd key": ({"metadata": [entry(b"\xff", U32, bytes(4))], "keys": 1}, "not UTF-8"),
    "control key": ({"metadata": [entry("a\nb", U32, bytes(4))], "keys": 1}, "not printable"),
    "value type": ({"metadata": [entry("k", 13, bytes(4))], "keys": 1}, "unknown type 13"),
    "string length": (
        {"metadata": [entry("k", STRING, struct.pack("<Q", HUGE))], "keys": 1}, "are left",
    ),
    "string text": ({"metadata": [entry("k", STRING, text(b"\xc3"))], "keys": 1}, "not UTF-8"),
    "nested array": (
        {"metadata": [entry("k", ARRAY, struct.pack("<IQ", ARRAY, 1))], "keys": 1},
        "array of the type 9",
    ),
    "array count": (
        {"metadata": [entry("k", ARRAY, struct.pack("<IQ", U32, HUGE))], "keys": 1}, "are left",
    ),
    "string array count": (
        {"metadata": [entry("k", ARRAY, struct.pack("<IQ", STRING, HUGE))], "keys": 1}, "claims",
    ),
    "string array item": (
        {"metadata": [entry("k", ARRAY, struct.pack("<IQQ", STRING, 1, HUGE))], "keys": 1},
        "beyond the end",
    ),
    "first of many items": (
        {"metadata": [entry("k", ARRAY, struct.pack("<IQQ", STRING, 9, HUGE))], "keys": 1},
        "beyond the end",
    ),
    "alignment": (
        {"metadata": [entry("general.alignment", U32, bytes(4))], "keys": 1},
        "general.alignment is 0",
    ),
    "alignment's type": (
        {"metadata": [entry("general.alignment", STRING, text("x"))], "keys": 1},
        "general.alignment is 'x'",
    ),
    "no dimensions": ({"infos": [tensor("one", [], 0, 0)], "tensors": 1}, "0 dimensions"),
    "dimensions": ({"infos": [tensor("one", [1] * 5, 0, 0)], "tensors": 1}, "5 dimensions"),
    "zero size": ({"infos": [tensor("one", [0, 4], 0, 0)], "tensors": 1}, r"sizes \[0, 4\]"),
    "product": ({"infos": [tensor("one", [HUGE] * 4, 0, 0)], "tensors": 1}, "ends at byte"),
    "row and block": ({"infos": [tensor("one", [31], 8, 0)], "tensors": 1}, r"\[31\] as Q8_0"),
    "ggml type": (
        {"infos": [tensor("one", [32], 10, 0)], "tensors": 1}, "one as ggml type 10; expected F32",
    ),
    "offset": ({"infos": [tensor("one", [4], 0, HUGE - 5)], "tensors": 1}, "ends at byte"),
    "odd offset": ({"infos": [tensor("one", [4], 0, 4)], "tensors": 1}, "begins at byte 4"),
    "overlap": (
        {"infos": [tensor("one", [32], 0, 0), tensor("two", [32], 0, 32)]}, "two begins at byte 32",
    ),
    "tensor twice": (
        {"infos": [tensor("one", [4], 0, 0), tensor("one", [4], 0, 32)]}, "one is there twice",
    ),
    "cut data": ({"data": bytes(384 + 33)}, "two ends at byte"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage(file: Callable[[bytes], Path], name: str) -> None:
    changes, message = DAMAGE[name]
    path = file(container(**changes))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_header(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_every_shorter_file_is_refused(file: Callable[[bytes], Path]) -> None:
    whole = container()
    for size in range(len(whole)):
        with pytest.raises(CheckpointError):
            read_header(file(whole[:size]))


def test_flipped_bits_are_refused_or_read(file: Callable[[bytes], Path]) -> None:
    whole, rng, refused = container(), np.random.default_rng(3), 0
    for _ in range(500):
        flipped = bytearray(whole)
        for at in rng.integers(0, 400, rng.integers(1, 4)):
            flipped[at] ^= 1 << rng.integers(8)
        try:
            header = read_header(file(bytes(flipped)))
            header.strings("words")
        except CheckpointError:
            refused += 1
    assert 50 < refused < 500


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.gguf"):
        with pytest.raises(CheckpointError, match="cannot read"):
            read_header(path)

"""Adapters between formats: what goes in comes out, or is refused before anything is written."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import gemkit
from gemkit.adapt.lora import Adapter, Lora, target_paths
from gemkit.checkpoint import adapters
from gemkit.checkpoint.adapters import (
    FORMATS,
    UpdateParity,
    compare,
    compare_logits,
    convert_adapter,
    one_scale,
    read_adapter,
    recognise,
    write_adapter,
)
from gemkit.errors import CheckpointError, ConfigError, GemkitError, UsageError
from gemkit.language_model import LanguageModel
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import specs

HASH = "0123456789abcdef" * 4
NAMES = {"peft": "adapter", "keras": "a.lora.h5", "flax": "adapter", "gguf": "a.gguf"}
PLAIN = [name for name in FORMATS if name != "keras"]
KINDS = {
    "lora": Lora(3, 5.0, dropout=0.1),
    "some": Lora(2, targets=("q", "layers.1.mlp.*")),
    "rslora": Lora(4, 6.0, rslora=True),
    "patterns": Lora(
        4, 6.0, rslora=True, rank_pattern={"q": 2, "layers.1.mlp.*": 7},
        alpha_pattern={"layers.0.*": 9.5, "up": 0.75},
    ),
    "no alpha": Lora(4, rank_pattern={"layers.0.attn.*": 2, "down": 3}),
}  # fmt: skip
DORA = Lora(2, 3.0, dora=True)


def make(config: GemmaConfig, lora: Lora) -> Adapter:
    """Random matrices and magnitudes."""
    draw, adapter = np.random.default_rng(4), {}
    for path in target_paths(config, lora.targets):
        rows, columns = specs(config)[path].shape
        rank = lora.rank_of(path)
        shapes: dict[str, tuple[int, ...]] = {"a": (rank, columns), "b": (rank, rows)}
        if lora.dora:
            shapes |= {"m": (rows,)}
        adapter[path] = {
            part: jnp.asarray(draw.normal(size=shape) * 0.2, jnp.float32)
            for part, shape in shapes.items()
        }
    return adapter


@pytest.fixture
def gemma1(tiny: dict[str, GemmaConfig]) -> GemmaConfig:
    return tiny["gemma1"]


def update(lora: Lora, adapter: Adapter, path: str) -> np.ndarray:
    pair = {name: np.asarray(leaf, np.float64) for name, leaf in adapter[path].items()}
    return lora.scale_of(path) * pair["b"].T @ pair["a"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", PLAIN)
def test_updates_come_back(
    gemma1: GemmaConfig, tmp_path: Path, format: str, kind: str
) -> None:
    lora, adapter = KINDS[kind], make(gemma1, KINDS[kind])
    path = tmp_path / NAMES[format]
    write_adapter(path, format, gemma1, lora, adapter, base_hash=HASH)
    assert recognise(path) == format
    found, again = read_adapter(path, gemma1, HASH)
    assert list(again) == list(adapter) == list(found.targets)
    for name in adapter:
        expected = update(lora, adapter, name)
        np.testing.assert_allclose(update(found, again, name), expected, atol=1e-6)
        assert found.rank_of(name) == again[name]["a"].shape[0]


@pytest.mark.parametrize("format", PLAIN)
def test_every_generation(config: GemmaConfig, tmp_path: Path, format: str) -> None:
    lora = Lora(3, 5.0)
    notes = write_adapter(tmp_path / NAMES[format], format, config, lora, make(config, lora))
    assert "update matrices" in notes[-1]


def test_every_way_around(gemma1: GemmaConfig, tmp_path: Path) -> None:
    """Keras → PEFT → GGUF → Flax → PEFT → Keras: what begins with shared B can end so."""
    shared = Lora(2, targets=("q", "v"), rank_pattern={"q": 8, "v": 4})
    adapter = {
        path: {"a": pair["a"], "b": jnp.asarray(np.kron(np.eye(len(pair["a"]) // 2), np.full((2, 8),
               0.1 * index + 0.5)), jnp.float32)}
        for index, (path, pair) in enumerate(make(gemma1, shared).items())
    }  # fmt: skip
    first = tmp_path / "0.lora.h5"
    write_adapter(first, "keras", gemma1, shared, adapter)
    place = first
    for step, format in enumerate(["peft", "gguf", "flax", "peft", "keras"], 1):
        target = tmp_path / f"{step}{Path(NAMES[format]).suffix and NAMES[format]}"
        done = convert_adapter(place, target, format, gemma1, base_hash=HASH)
        assert (done.matrices, done.parity.relative < 1e-6) == (4, True)
        assert done.target == FORMATS[format].title and "4 matrices" in str(done)
        place = target
    assert compare(read_adapter(first, gemma1), read_adapter(place, gemma1)).relative < 1e-6


def test_keras_gets_only_what_it_can_say(gemma1: GemmaConfig, tmp_path: Path) -> None:
    lora = Lora(3, 5.0, targets=("q",))
    adapter, path = make(gemma1, lora), tmp_path / "a.lora.h5"
    with pytest.raises(GemkitError, match="--approximate"):
        write_adapter(path, "keras", gemma1, lora, adapter)
    assert not list(tmp_path.iterdir())
    *notes, parity = write_adapter(path, "keras", gemma1, lora, adapter, approximate=True)
    assert any("of the update is lost" in note for note in notes)
    assert "largest difference of 4 update matrices" in parity


def test_a_rank_at_which_keras_can_say_all(gemma1: GemmaConfig, tmp_path: Path) -> None:
    """The rank that the refusal names keeps every update."""
    lora = Lora(3, 5.0, targets=("q",))
    adapter, path = make(gemma1, lora), tmp_path / "a.lora.h5"
    with pytest.raises(UsageError) as caught:
        write_adapter(path, "keras", gemma1, lora, adapter)
    needed = int(re.search(r"--rank (\d+) keeps it", str(caught.value))[1])  # type: ignore[index]
    assert needed > 3
    write_adapter(path, "keras", gemma1, lora, adapter, rank=needed)
    assert compare((lora, adapter), read_adapter(path, gemma1)).relative < 1e-6
    with pytest.raises(UsageError, match="--rank"):
        write_adapter(tmp_path / "b.lora.h5", "keras", gemma1, lora, adapter, rank=needed - 1)
    for format in set(NAMES) - {"keras"}:
        with pytest.raises(UsageError, match="keeps every matrix's own rank"):
            write_adapter(tmp_path / NAMES[format], format, gemma1, lora, adapter, rank=needed)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.lora.h5"]


@pytest.mark.parametrize("format", PLAIN)
def test_the_hash_of_the_base(gemma1: GemmaConfig, tmp_path: Path, format: str) -> None:
    lora, path = Lora(2), tmp_path / NAMES[format]
    notes = write_adapter(path, format, gemma1, lora, make(gemma1, lora), base_hash=HASH)
    if format == "flax":
        assert "a Flax adapter folder does not keep the hash of the base" in notes
        return
    with pytest.raises(CheckpointError, match="hash 0123456789ab, this model has ffff"):
        read_adapter(path, gemma1, "ffff")
    with pytest.raises(CheckpointError, match="hash 0123456789ab, this model has ffff"):
        convert_adapter(path, tmp_path / "b.gguf", "gguf", gemma1, base_hash="ffff")
    read_adapter(path, gemma1)


@pytest.mark.parametrize("format", FORMATS)
def test_dora_is_for_peft(gemma1: GemmaConfig, tmp_path: Path, format: str) -> None:
    adapter, path = make(gemma1, DORA), tmp_path / NAMES[format]
    if format == "peft":
        assert write_adapter(path, format, gemma1, DORA, adapter)[0].endswith("to the last bit")
        assert compare((DORA, adapter), read_adapter(path, gemma1)).difference == 0
        return
    with pytest.raises(ConfigError, match="cannot say DoRA's magnitudes; .*; merge it"):
        write_adapter(path, format, gemma1, DORA, adapter)
    assert not list(tmp_path.iterdir())


def test_dropout_is_for_peft(gemma1: GemmaConfig, tmp_path: Path) -> None:
    lora = Lora(2, dropout=0.5)
    notes = write_adapter(tmp_path / "a.gguf", "gguf", gemma1, lora, make(gemma1, lora))
    assert "a GGUF adapter file does not keep the dropout" in notes


def test_what_is_written_is_proven(
    gemma1: GemmaConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that writes something else leaves nothing behind."""
    lora = Lora(2, 3.0)
    adapter, write = make(gemma1, lora), adapters.peft.write_adapter

    def wrong(folder: Path, config: GemmaConfig, lora: Lora, *rest: Any) -> None:
        write(folder, config, dataclasses.replace(lora, alpha=3.001), *rest)

    monkeypatch.setattr(adapters.peft, "write_adapter", wrong)
    with pytest.raises(CheckpointError, match="what was written is another adapter: largest"):
        write_adapter(tmp_path / "a", "peft", gemma1, lora, adapter)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "format", "said"), [
    ("a", "onnx", "format is 'onnx'; expected 'peft' or 'keras' or 'flax' or 'gguf'"),
    ("a.h5", "keras", "is no name for a Keras .lora.h5 file; expected one that ends in"),
    ("a", "gguf", "expected one that ends in .gguf"),
    ("full", "peft", "is no empty folder; expected a new or empty folder"),
    ("full", "flax", "is no empty folder"),
    ("there.gguf", "gguf", "exists; expected a new GGUF adapter file; name another"),
    ("there.gguf", "peft", "is no empty folder"),
])  # fmt: skip
def test_places_that_are_taken(
    gemma1: GemmaConfig, tmp_path: Path, name: str, format: str, said: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "there.gguf").write_bytes(b"x")
    with pytest.raises(GemkitError) as caught:
        write_adapter(tmp_path / name, format, gemma1, Lora(2), make(gemma1, Lora(2)))
    assert said in str(caught.value)
    assert (tmp_path / "there.gguf").read_bytes() == b"x"


def test_an_empty_folder_is_used(gemma1: GemmaConfig, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_adapter(tmp_path / "a", "peft", gemma1, Lora(2), make(gemma1, Lora(2)))
    assert recognise(tmp_path / "a" / "adapter_config.json") == "peft"


def test_what_is_no_adapter(gemma1: GemmaConfig, tmp_path: Path) -> None:
    for content, said in (
        (b"", "is no adapter gemkit knows; expected a PEFT adapter folder"),
        (b"PK\x03\x04", "a pickle could run any code"),
        (b"GGUF", ""), (b"\x89HDF\r\n\x1a\n", ""),
    ):  # fmt: skip
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(GemkitError) as caught:
            read_adapter(tmp_path / "file", gemma1)
        assert said in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="is no adapter; it holds file; expected"):
        read_adapter(tmp_path, gemma1)
    with pytest.raises(CheckpointError, match="does not exist"):
        read_adapter(tmp_path / "nothing", gemma1)


def test_one_scale(gemma1: GemmaConfig) -> None:
    lora = KINDS["patterns"]
    adapter = make(gemma1, lora)
    plain, scaled = one_scale(lora, adapter)
    assert (plain.rslora, plain.rank_pattern, plain.alpha_pattern) == (False, (), ())
    assert plain.scale == pytest.approx(lora.scale)
    for path in adapter:
        ours = np.asarray(scaled[path]["b"].T @ scaled[path]["a"]) * plain.scale
        np.testing.assert_allclose(ours, update(lora, adapter, path), atol=1e-6)
    kept = one_scale(KINDS["lora"], adapter)[1]
    assert all(kept[path]["b"] is adapter[path]["b"] for path in adapter)


def test_parity_measures_updates(gemma1: GemmaConfig) -> None:
    lora, path = Lora(2, 3.0, targets=("q", "down")), "layers.0.attn.q"
    adapter = make(gemma1, lora)
    same = compare((lora, adapter), (Lora(2, 1.0), {
        name: {"a": pair["a"] * 3, "b": pair["b"]} for name, pair in adapter.items()
    }))  # fmt: skip
    assert same.relative < 1e-6 and same.matrices == 4
    largest = max(np.abs(update(lora, adapter, name)).max() for name in adapter)
    assert same.largest == pytest.approx(largest, rel=1e-6)
    fewer = {name: pair for name, pair in adapter.items() if name != path}
    for first, second in ((adapter, fewer), (fewer, adapter)):
        lost = compare((lora, first), (lora, second))
        assert lost.difference == pytest.approx(np.abs(update(lora, adapter, path)).max())
    assert specs(gemma1)[path].shape == update(lora, adapter, path).shape


def test_parity_measures_magnitudes(gemma1: GemmaConfig) -> None:
    adapter = make(gemma1, DORA)
    other = {name: pair | {"m": pair["m"] + 10} for name, pair in adapter.items()}
    assert compare((DORA, adapter), (DORA, other)).difference == pytest.approx(10, rel=1e-5)


def test_parity_of_logits(gemma1: GemmaConfig, weights: Any) -> None:
    params, lora = weights(gemma1), Lora(2, 3.0, dora=True)
    adapter = make(gemma1, lora)
    assert compare_logits(gemma1, params, (lora, adapter), (lora, adapter)).difference == 0
    other = {path: pair | {"b": pair["b"] * 1.1} for path, pair in adapter.items()}
    assert compare_logits(gemma1, params, (lora, adapter), (lora, other)).difference > 1e-3


def test_loading_applies_any_format(small_model: Path, tmp_path: Path) -> None:
    base = gemkit.load(small_model)
    lora, ids = Lora(2, 3.0, rank_pattern={"q": 3}), [2, 8, 20, 21]
    adapter = make(base.config, lora)
    wanted = LanguageModel("wanted", base.config, base.base, None, lora, adapter).logits(ids)
    assert np.abs(np.asarray(wanted - base.logits(ids))).max() > 0.01
    for format in PLAIN:
        place = tmp_path / format / NAMES[format]
        write_adapter(place, format, base.config, lora, adapter, base_hash=base.base_hash)
        adapted = gemkit.load(small_model, adapter=place)
        np.testing.assert_allclose(adapted.logits(ids), wanted, atol=1e-5)


def test_parity_in_words() -> None:
    assert str(UpdateParity(0.0, 1.5, 4)) == "4 update matrices equal to the last bit"
    assert str(UpdateParity(1.25e-7, 1.5, 4)) == (
        "largest difference of 4 update matrices 1.2e-07 (elements reach 1.5)"
    )
    assert UpdateParity(0.5, 0.0, 1).relative == 1 and UpdateParity(0.0, 0.0, 1).relative == 0


def test_an_unknown_format(gemma1: GemmaConfig, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(UsageError, match="format is 'zip'"):
        convert_adapter(tmp_path / "a.gguf", tmp_path / "x", "zip", gemma1)

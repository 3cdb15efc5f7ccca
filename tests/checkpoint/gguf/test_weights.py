"""Whole GGUF files: what we write the library reads, what it writes we read, and back."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemkit.checkpoint.files import Stored
from gemkit.checkpoint.gguf import weights as gguf
from gemkit.checkpoint.gguf.blocks import CODES, TYPES, decode, encode
from gemkit.checkpoint.gguf.config import config_metadata
from gemkit.checkpoint.gguf.header import read_header
from gemkit.checkpoint.gguf.tokenizer import tokenizer_metadata
from gemkit.errors import CheckpointError, ConfigError, GemkitError, TokenizerError
from gemkit.model.config import GemmaConfig
from gemkit.text.tokenizer import Tokenizer

Params = dict[str, Any]
Weights = Callable[..., Params]

# Rows that blocks of 32 fill, but for the output projection's.
WIDE = {"hidden_size": 64, "intermediate_size": 96}
GENERATIONS = ("gemma1", "gemma2", "gemma3")
WORDS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "q8_0": "Q8_0", "q4_0": "Q4_0"}


@pytest.fixture(params=GENERATIONS)
def model(request: pytest.FixtureRequest, tiny: dict[str, GemmaConfig]) -> GemmaConfig:
    return dataclasses.replace(tiny[request.param], **WIDE)


def leaves(params: Params) -> dict[str, np.ndarray]:
    from gemkit.model.weights import flatten

    return {path: np.asarray(leaf, np.float32) for path, leaf in flatten(params)}


def save(path: Path, config: GemmaConfig, params: Params, *more: Any) -> tuple[str, ...]:
    from gemkit.checkpoint.save import save_checkpoint

    tokenizer, dtype = (*more, None, None)[:2]
    return save_checkpoint(path, config, params, tokenizer, "gguf", dtype)


def load(path: Path) -> Any:
    from gemkit.checkpoint.load import load_checkpoint

    return load_checkpoint(path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_there_and_back(
    tmp_path: Path, model: GemmaConfig, weights: Weights, tokenizer: Tokenizer, dtype: str
) -> None:
    params = weights(model, dtype)
    path = tmp_path / "model.gguf"
    assert save(path, model, params, tokenizer) == ()
    back = load(path)
    assert back.config == model
    text = "the  soup\n<end_of_turn> 수"
    assert back.tokenizer.encode(text) == tokenizer.encode(text)
    found = leaves(back.params)
    for name, leaf in leaves(params).items():
        # A norm's scale comes with the one added, which takes the last digits of float32.
        error = 1.2e-7 if "norm" in name and dtype == "float32" else 0.0
        assert np.abs(found[name] - leaf).max() <= error, name
    assert {leaf.dtype.name for leaf in back.params["layers"][0]["mlp"].values()} == {dtype}


@pytest.mark.parametrize("word", ["q8_0", "q4_0"])
def test_quantised_there_and_back(
    tmp_path: Path, model: GemmaConfig, weights: Weights, tokenizer: Tokenizer, word: str
) -> None:
    params = weights(model)
    remarks = save(tmp_path / "model.gguf", model, params, tokenizer, word)
    assert (len(remarks) == 1 and "token_embd.weight" in remarks[0]) == (word == "q4_0")
    found = leaves(load(tmp_path / "model.gguf").params)
    for name, leaf in leaves(params).items():
        kind = TYPES[CODES["Q8_0" if name == "embed" else WORDS[word]]]
        if leaf.ndim == 2:
            expected = decode(encode(leaf, kind), kind, leaf.shape)
            assert np.array_equal(found[name], expected), name
        else:
            assert np.abs(found[name] - leaf).max() <= 1.2e-7


@pytest.mark.parametrize("word", WORDS)
def test_the_library_reads_what_we_write(
    tmp_path: Path, model: GemmaConfig, weights: Weights, tokenizer: Tokenizer, word: str
) -> None:
    from gguf import GGUFReader
    from gguf.quants import dequantize

    params = weights(model)
    save(tmp_path / "model.gguf", model, params, tokenizer, word)
    reader = GGUFReader(tmp_path / "model.gguf")
    metadata = config_metadata(model) | tokenizer_metadata(tokenizer, model.vocab_size)
    for key, value in metadata.items():
        field = reader.get_field(key)
        assert field is not None, key
        read = field.contents()
        assert read == value if not isinstance(value, float) else np.isclose(read, value), key
    file_type = reader.get_field("general.file_type")
    assert file_type is not None
    expected = {"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q4_0": 2}[WORDS[word]]
    assert file_type.contents() == expected
    types = {t.name: t.tensor_type.name for t in reader.tensors}
    assert {kind for name, kind in types.items() if "norm" in name} == {"F32"}
    assert {kind for name, kind in types.items() if "blk." in name and "norm" not in name} == {
        WORDS[word]
    }
    gate = next(t for t in reader.tensors if t.name == "blk.1.ffn_gate.weight")
    assert gate.shape.tolist() == [64, 96]
    values = dequantize(gate.data, gate.tensor_type)
    assert np.array_equal(values, leaves(load(tmp_path / "model.gguf").params)["layers.1.mlp.gate"])
    norm = next(t for t in reader.tensors if t.name == "output_norm.weight")
    assert np.allclose(norm.data, 1 + leaves(params)["final_norm"])


def library_file(
    path: Path, config: GemmaConfig, params: Params, tokenizer: Tokenizer | None = None,
    drop: str = "", extra: dict[str, np.ndarray] | None = None,
    metadata: dict[str, Any] | None = None, rows: int = 0,
) -> None:  # fmt: skip
    """A file made by the library from names and metadata spelt here; Q8_0 where rows allow."""
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    names = {
        "embed": "token_embd", "final_norm": "output_norm", "pre_attn_norm": "attn_norm",
        "attn.q": "attn_q", "attn.k": "attn_k", "attn.v": "attn_v", "attn.o": "attn_output",
        "attn.q_norm": "attn_q_norm", "attn.k_norm": "attn_k_norm",
        "post_attn_norm": "post_attention_norm", "pre_ffw_norm": "ffn_norm",
        "mlp.gate": "ffn_gate", "mlp.up": "ffn_up", "mlp.down": "ffn_down",
        "post_ffw_norm": "post_ffw_norm",
    }  # fmt: skip
    described = config_metadata(config) | (metadata or {})
    writer = GGUFWriter(path, described.pop("general.architecture"))
    if tokenizer is not None:
        described |= tokenizer_metadata(tokenizer, config.vocab_size)
    for key, value in described.items():
        gguf._add(writer, key, value)
    for place, leaf in leaves(params).items():
        head, _, rest = place.removeprefix("layers.").partition(".")
        name = f"blk.{head}.{names[rest]}" if place.startswith("layers.") else names[place]
        if place == "embed" and rows:
            leaf = np.concatenate([leaf, np.zeros((rows, leaf.shape[1]), np.float32)])
        if name == drop:
            continue
        if leaf.ndim == 1:
            writer.add_tensor(f"{name}.weight", leaf + 1)
        else:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{name}.weight", quants.quantize(leaf, kind), raw_dtype=kind)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_we_read_what_the_library_writes(
    tmp_path: Path, model: GemmaConfig, weights: Weights, tokenizer: Tokenizer
) -> None:
    params = weights(model)
    path = tmp_path / "model.gguf"
    library_file(path, model, params, tokenizer, rows=128)
    back = load(path)
    assert back.config == model
    assert back.report.notes == ("128 padding rows of the embedding left out",)
    found = leaves(back.params)
    for name, leaf in leaves(params).items():
        assert np.abs(found[name] - leaf).max() <= 0.01, name


def test_rows_that_blocks_do_not_fill(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Weights
) -> None:
    config = tiny["gemma1"]  # D is 24, and N*H 32
    params = weights(config)
    remarks = save(tmp_path / "model.gguf", config, params, None, "q8_0")
    assert any("13 matrices are stored as float32" in remark for remark in remarks)
    assert any("without a tokenizer" in remark for remark in remarks)
    kinds = {n: i.kind.name for n, i in read_header(tmp_path / "model.gguf").tensors.items()}
    assert (kinds["blk.0.attn_q.weight"], kinds["blk.0.attn_output.weight"]) == ("F32", "Q8_0")
    back = load(tmp_path / "model.gguf")
    assert back.tokenizer is None
    assert np.array_equal(leaves(back.params)["embed"], leaves(params)["embed"])


def test_a_head_that_is_the_embedding_and_one_that_is_not(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Weights
) -> None:
    config = dataclasses.replace(tiny["gemma3"], **WIDE)
    params = weights(config)
    embedding = leaves(params)["embed"]
    tensors = {
        name: Stored(name, embedding.shape, "float32", lambda: embedding)
        for name in ("token_embd.weight", "output.weight")
    }
    write = {**config_metadata(config)}
    gguf.write_file(tmp_path / "same.gguf", write, tensors, dict.fromkeys(tensors, TYPES[0]))
    with gguf.opened(_with_layers(tmp_path / "same.gguf", config, tensors)) as source:
        assert source.tensors.unused == ("output.weight",)
    other = Stored("output.weight", embedding.shape, "float32", lambda: embedding + 1)
    tensors["output.weight"] = other
    path = _with_layers(tmp_path / "other.gguf", config, tensors)
    with pytest.raises(CheckpointError, match="output.weight differs from token_embd.weight"):
        with gguf.opened(path):
            pass


def _with_layers(path: Path, config: GemmaConfig, tensors: dict[str, Stored]) -> Path:
    """A file with so many tensors that there may be layers."""
    more = {
        f"blk.{n}.x": Stored("", (1,), "float32", lambda: np.ones(1, np.float32))
        for n in range(config.num_layers)
    }
    everything = tensors | more
    kinds = dict.fromkeys(everything, TYPES[0])
    gguf.write_file(path, config_metadata(config), everything, kinds)
    return path


def test_a_vision_tower_is_left_out(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Weights
) -> None:
    config = dataclasses.replace(tiny["gemma3"], **WIDE)
    extra = {name: np.ones(4, np.float32) for name in ("v.blk.0.ln1.weight", "mm.x.weight")}
    library_file(tmp_path / "model.gguf", config, weights(config), extra=extra)
    assert load(tmp_path / "model.gguf").report.unused == tuple(extra)


MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"drop": "blk.1.attn_k"}, "missing blk.1.attn_k.weight"),
    "no embedding": ({"drop": "token_embd"}, "token_embd.weight is missing"),
    "unknown": ({"extra": {"blk.0.attn_q.bias": np.ones(4, np.float32)}}, "unknown blk.0.attn_q.b"),
    "more layers": ({"metadata": {"gemma.block_count": 3}}, "missing blk.2.attn_norm.weight"),
    "imagined layers": ({"metadata": {"gemma.block_count": 900}}, "20 tensors; expected 900"),
    "width": ({"metadata": {"gemma.embedding_length": 2**20}}, r"is \[320, 64\]; expected rows of"),
    "heads": ({"metadata": {"gemma.attention.key_length": 10, "gemma.attention.value_length": 10}},
              r"attn_q.weight has shape \[32, 64\], expected \[40, 64\]"),
    "many rows": ({"rows": 129}, "token_embd.weight has shape"),
    "pieces": ({"metadata": {"tokenizer.ggml.tokens": [f"p{n}" for n in range(321)]}},
               "321 pieces; expected at most vocab_size, 320"),
    "a part": ({"metadata": {"split.count": 2}}, "one of 2 parts"),
    "adapter": ({"metadata": {"general.type": "adapter"}}, "general.type is 'adapter'"),
    "architecture": ({"metadata": {"general.architecture": "llama"}}, "architecture is 'llama'"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_files_that_do_not_fit(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Weights, case: str
) -> None:
    changes, message = MISFITS[case]
    config = dataclasses.replace(tiny["gemma1"], **WIDE)
    library_file(tmp_path / "model.gguf", config, weights(config), **changes)
    with pytest.raises((CheckpointError, ConfigError), match=message) as caught:
        load(tmp_path / "model.gguf")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_what_cannot_be_stored_leaves_no_file(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Weights, tokenizer: Tokenizer
) -> None:
    for config, message in (
        (tiny["gemma2_27b"], "query_scale"),
        (dataclasses.replace(tiny["gemma1"], vocab_size=300), "320 pieces and the embedding 300"),
    ):
        with pytest.raises(ConfigError, match=message):
            save(tmp_path / "model.gguf", config, weights(config), tokenizer)
    config = dataclasses.replace(tiny["gemma1"], **WIDE)
    params = weights(config)
    params["embed"] = params["embed"].at[3, 3].set(np.nan)
    with pytest.raises(CheckpointError, match="a weight is nan"):
        save(tmp_path / "model.gguf", config, params, tokenizer, "q8_0")
    assert list(tmp_path.iterdir()) == []


def test_recognised_by_what_is_inside(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Weights
) -> None:
    file, config = tmp_path / "model.gguf", tiny["gemma1"]
    assert not gguf.recognises(tmp_path)
    assert not gguf.recognises(tmp_path / "missing")
    save(file, config, weights(config))
    assert gguf.recognises(file) and gguf.recognises(tmp_path)
    (tmp_path / "mmproj-model.gguf").write_bytes(b"GGUF")
    assert load(tmp_path).config == config
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert gguf.recognises(file) and not gguf.recognises(tmp_path)
    other = tmp_path / "other.gguf"
    other.write_bytes(b"text")
    assert not gguf.recognises(other)
    with pytest.raises(CheckpointError, match="2 .gguf files"):
        with gguf.opened(tmp_path):
            pass


def test_flipped_bits_end_in_one_line_or_a_model(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Weights, tokenizer: Tokenizer
) -> None:
    path = tmp_path / "model.gguf"
    config = dataclasses.replace(tiny["gemma3"], num_layers=1)
    save(path, config, weights(config), tokenizer)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(5), 0
    head = min(info.start for info in read_header(path).tensors.values())
    for _ in range(150):
        damaged = bytearray(whole)
        for at in rng.integers(0, head, rng.integers(1, 6)):
            damaged[at] = rng.integers(256)
        size = rng.integers(head, len(whole)) if rng.random() < 0.2 else len(whole)
        path.write_bytes(damaged[:size])
        try:
            with gguf.opened(path) as source:
                for stored in source.tensors.found.values():
                    stored.read()
                if source.tokenizer is not None:
                    source.tokenizer()
        except (CheckpointError, ConfigError, TokenizerError) as error:
            assert "\n" not in str(error) and isinstance(error, GemkitError)
            refused += 1
    assert 20 < refused < 150

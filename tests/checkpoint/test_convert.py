"""Any format into any other, proved by the logits of a probe."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from gemkit.adapt.lora import Lora, attach, init_adapter, merge
from gemkit.checkpoint import convert as converting
from gemkit.checkpoint import parity
from gemkit.checkpoint.convert import convert, save_merged
from gemkit.checkpoint.formats import FORMATS
from gemkit.checkpoint.hf import weights as huggingface
from gemkit.checkpoint.load import load_checkpoint
from gemkit.checkpoint.save import save_checkpoint
from gemkit.errors import CheckpointError, UsageError
from gemkit.model.config import GemmaConfig
from gemkit.model.transformer import hidden, logits
from gemkit.model.weights import Params, flatten
from gemkit.text.tokenizer import Tokenizer

Make = Callable[..., Params]
Same = Callable[[Params, Params], bool]


def test_the_probe_is_the_model(config: GemmaConfig, weights: Make) -> None:
    """Layer by layer as in one go."""
    params = weights(config)
    seen: list[np.ndarray] = []
    leaves = dict(flatten(params))
    found = parity.probe_logits(config, leaves.__getitem__)
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, parity.PROBE_TOKENS)
    tokens[0] = 2
    row = jnp.asarray(tokens, jnp.int32)[None]
    positions = jnp.arange(parity.PROBE_TOKENS, dtype=jnp.int32)[None]
    states = hidden(params, config, row, positions, jnp.ones_like(row))
    seen = [np.asarray(logits(params, config, states))[0]]
    np.testing.assert_allclose(found, seen[0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("second", FORMATS)
@pytest.mark.parametrize("first", FORMATS)
def test_any_format_into_any_other(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, same: Same,
    tokenizer: Tokenizer, first: str, second: str,
) -> None:  # fmt: skip
    for name in ("gemma1", "gemma2", "gemma3"):
        one = tmp_path / f"{name}.{first}"
        two = tmp_path / f"{name}.{first}.{second}"
        save_checkpoint(one, tiny[name], weights(tiny[name]), tokenizer, first)
        before = load_checkpoint(one)
        done = convert(one, two, second)
        after = load_checkpoint(two)
        assert done.parity.difference <= 1e-3 * done.parity.largest
        assert done.report.loaded == len(dict(flatten(after.params)))
        if "gguf" not in (first, second):  # norms lose a bit when one is added
            assert same(before.params, after.params) and done.parity.difference == 0
        assert after.tokenizer is not None
        text = "the soup was  warm\n<end_of_turn>ä"
        assert after.tokenizer.encode(text) == tokenizer.encode(text)


def test_another_dtype(tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make) -> None:
    save_checkpoint(tmp_path / "a", tiny["gemma2"], weights(tiny["gemma2"]), None)
    done = convert(tmp_path / "a", tmp_path / "b", "hf", "bfloat16")
    assert load_checkpoint(tmp_path / "b").params["embed"].dtype == jnp.bfloat16
    assert 0 < done.parity.difference < 0.3 * done.parity.largest
    assert done.report.converted == done.report.loaded
    assert "has no tokenizer" in str(done)
    with pytest.raises(UsageError, match="dtype is q8_0 for format 'hf'"):
        convert(tmp_path / "a", tmp_path / "c", "hf", "q8_0")


def test_progress_is_told(tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make) -> None:
    save_checkpoint(tmp_path / "a", tiny["gemma1"], weights(tiny["gemma1"]), None)
    told: list[tuple[int, int]] = []
    convert(tmp_path / "a", tmp_path / "b", "hf", None, lambda *seen: told.append(seen))
    assert told == [(number, 60) for number in range(1, 61)]


def test_a_model_that_is_written_wrongly_is_not_kept(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "a", tiny["gemma1"], weights(tiny["gemma1"]), None)
    write = huggingface.write

    def swapped(target: Path, config: GemmaConfig, tensors: Any, *rest: Any) -> tuple[str, ...]:
        gate, up = (f"layers.1.mlp.{name}_proj.weight" for name in ("gate", "up"))
        return write(target, config, tensors | {gate: tensors[up]}, *rest)

    monkeypatch.setattr(huggingface, "write", swapped)
    with pytest.raises(CheckpointError, match="what was written is another model: largest logit"):
        convert(tmp_path / "a", tmp_path / "b", "hf")
    assert os.listdir(tmp_path) == ["a"]


def test_a_source_that_cannot_be_probed_leaves_nothing(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "a", tiny["gemma1"], weights(tiny["gemma1"]), None)

    def fails(config: GemmaConfig, leaf: Any) -> np.ndarray:
        raise CheckpointError("a tensor is damaged")

    monkeypatch.setattr("gemkit.checkpoint.convert.probe_logits", fails)
    with pytest.raises(CheckpointError, match="a tensor is damaged"):
        convert(tmp_path / "a", tmp_path / "b", "hf")
    assert os.listdir(tmp_path) == ["a"]


def test_a_target_that_is_taken_ends_the_probe(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "a", tiny["gemma1"], weights(tiny["gemma1"]), None)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").touch()
    ended = []

    def endless(config: GemmaConfig, leaf: Any) -> np.ndarray:
        try:
            while True:
                leaf("final_norm")
        finally:
            ended.append(True)

    monkeypatch.setattr("gemkit.checkpoint.convert.probe_logits", endless)
    with pytest.raises(CheckpointError, match="is not empty"):
        convert(tmp_path / "a", tmp_path / "b", "hf")
    assert ended == [True]


def test_merging_is_proved_against_model_and_adapter(
    tmp_path: Path, config: GemmaConfig, weights: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, lora = weights(config), Lora(rank=2, alpha=3.0)
    rng = np.random.default_rng(3)
    adapter = {
        path: {part: jnp.asarray(0.3 * rng.normal(size=leaf.shape), leaf.dtype)
               for part, leaf in pair.items()}
        for path, pair in init_adapter(config, lora, 0).items()
    }  # fmt: skip
    adapted = attach(base, adapter, lora)
    done = save_merged(tmp_path / "m", config, adapted, None, "hf")
    assert done.report.converted == len(adapter)
    assert done.parity.difference < 1e-3 * done.parity.largest
    monkeypatch.setattr(converting, "merge", lambda params: merge(attach(base, {}, lora)))
    with pytest.raises(CheckpointError, match="another model"):
        save_merged(tmp_path / "n", config, adapted, None, "hf")
    assert os.listdir(tmp_path) == ["m"]


def test_what_is_there_already_stays(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make
) -> None:
    save_checkpoint(tmp_path / "a", tiny["gemma1"], weights(tiny["gemma1"]), None)
    (tmp_path / "b.gguf").write_text("mine")
    with pytest.raises(CheckpointError, match=r"b\.gguf exists"):
        convert(tmp_path / "a", tmp_path / "b.gguf", "gguf")
    assert (tmp_path / "b.gguf").read_text() == "mine"

"""Checkpoints of transformers and KerasHub load here with their logits, and ours load there.

Random models, small, and shaped so that every feature changes the logits: rows longer than the
window, caps low enough to bend, N != K, N*H != D, a query scale that is not H**-0.5, scaled
positions, norm scales that are not zero, ragged rows with padding on the right.
"""

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import keras
import keras_hub
import numpy as np
import pytest
import sentencepiece
import torch
import transformers

from gemkit.checkpoint.hf import weights as huggingface
from gemkit.checkpoint.load import Loaded, load_checkpoint
from gemkit.checkpoint.save import save_checkpoint
from gemkit.model.transformer import hidden, logits, positions_of
from gemkit.model.weights import flatten
from gemkit.text.chat import chat_ids
from gemkit.text.tokenizer import Tokenizer

# What other libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("default")

VOCABULARY = 320
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 80,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip
LOCAL, FULL = "sliding_attention", "full_attention"
VISION: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip


def gemma3_text(**settings: Any) -> transformers.Gemma3TextConfig:
    defaults: dict[str, Any] = {
        "num_hidden_layers": 7, "query_pre_attn_scalar": 24, "sliding_window": 4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rms_norm_eps": 0.01,
    }  # fmt: skip
    return transformers.Gemma3TextConfig(**{**SIZES, **defaults, **settings})


TEXT_MODELS: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "gemma": lambda: transformers.GemmaConfig(**SIZES, num_hidden_layers=3, rms_norm_eps=0.01),
    "gemma scaled": lambda: transformers.GemmaConfig(
        **SIZES, num_hidden_layers=2, rope_scaling={"rope_type": "linear", "factor": 8.0}
    ),
    "gemma2": lambda: transformers.Gemma2Config(
        **SIZES, num_hidden_layers=4, query_pre_attn_scalar=24, sliding_window=4,
        attn_logit_softcapping=2.0, final_logit_softcapping=8.0, rms_norm_eps=0.01,
    ),
    "gemma2 27b": lambda: transformers.Gemma2Config(
        **SIZES, num_hidden_layers=2, query_pre_attn_scalar=12, sliding_window=5
    ),
    "gemma3": gemma3_text,
    "gemma3 capped": lambda: gemma3_text(
        final_logit_softcapping=5.0, layer_types=[FULL, LOCAL, LOCAL, LOCAL], num_hidden_layers=4,
        rope_scaling=None, attn_logit_softcapping=1.0,
    ),
}  # fmt: skip


def random_weights(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Tokens [2, 19] and segments: the second row has 11 tokens."""
    tokens = np.random.default_rng(3).integers(4, VOCABULARY, (2, 19))
    segments = np.ones_like(tokens)
    segments[1, 11:] = 0
    return np.where(segments > 0, tokens, 0).astype(np.int32), segments.astype(np.int32)


def our_logits(loaded: Loaded) -> np.ndarray:
    """Float32 logits at the tokens that are no padding, [M, V]."""
    tokens, segments = batch()
    states = hidden(
        loaded.params, loaded.config, jnp.asarray(tokens), positions_of(jnp.asarray(segments)),
        jnp.asarray(segments),
    )  # fmt: skip
    return np.asarray(logits(loaded.params, loaded.config, states))[segments > 0]


def their_logits(model: Any) -> np.ndarray:
    tokens, segments = batch()
    with torch.no_grad():
        out = model.eval()(torch.tensor(tokens).long(), attention_mask=torch.tensor(segments))
    return out.logits.float().numpy()[segments > 0]


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 1
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
    assert np.array_equal(ours.argmax(-1), theirs.argmax(-1))


@pytest.mark.parametrize("shard", ["50GB", "20KB"])
@pytest.mark.parametrize("name", TEXT_MODELS)
def test_transformers_to_gemkit(tmp_path: Path, name: str, shard: str) -> None:
    model = transformers.AutoModelForCausalLM.from_config(
        TEXT_MODELS[name](), attn_implementation="eager"
    )
    random_weights(model)
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard == "20KB")
    loaded = load_checkpoint(tmp_path)
    assert (loaded.report.converted, loaded.report.unused) == (0, ())
    assert_close(our_logits(loaded), their_logits(model))


COMMON: dict[str, Any] = {"query_scale": 0.21, "rope_theta": 9000.0, "norm_eps": 0.02}
LATER: dict[str, Any] = COMMON | {"sliding_window": 5, "rope_local_theta": 9000.0}
CHANGES: dict[str, dict[str, Any]] = {
    "gemma": COMMON,
    "gemma scaled": {"rope_scale": 7.5},
    "gemma2": LATER | {"attn_logit_softcap": 2.1, "final_logit_softcap": 8.1},
    "gemma3": LATER | {"rope_scale": 7.5},
    "gemma3 capped": {"final_logit_softcap": 5.1},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_wrong_setting_would_be_noticed(tmp_path: Path, name: str) -> None:
    """The comparisons above would fail if one number of a config.json were read wrongly."""
    model = transformers.AutoModelForCausalLM.from_config(TEXT_MODELS[name]())
    random_weights(model)
    model.save_pretrained(tmp_path)
    loaded = load_checkpoint(tmp_path)
    right = our_logits(loaded)
    for setting, value in CHANGES[name].items():
        config = dataclasses.replace(loaded.config, **{setting: value})
        wrong = our_logits(dataclasses.replace(loaded, config=config))
        assert np.abs(wrong - right).max() > 1e-3 * np.abs(right).max(), setting


def test_transformers_bfloat16_to_gemkit(tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_config(gemma3_text())
    random_weights(model)
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    loaded = load_checkpoint(tmp_path)
    theirs = dict(model.named_parameters())
    assert {leaf.dtype.name for _, leaf in flatten(loaded.params)} == {"bfloat16"}
    ours = np.asarray(loaded.params["layers"][3]["attn"]["o"]).astype(np.float32)
    expected = theirs["model.layers.3.self_attn.o_proj.weight"].float().detach().numpy()
    assert np.array_equal(ours, expected)


@pytest.mark.parametrize("old_names", [False, True])
def test_multimodal_gemma3_to_gemkit(tmp_path: Path, old_names: bool) -> None:
    config = transformers.Gemma3Config(
        text_config=gemma3_text(query_pre_attn_scalar=256, rms_norm_eps=1e-6).to_dict(),
        vision_config=VISION, mm_tokens_per_image=4,
    )  # fmt: skip
    model = transformers.Gemma3ForConditionalGeneration._from_config(
        config, attn_implementation="eager"
    )
    random_weights(model)
    model.save_pretrained(tmp_path, save_original_format=old_names)
    described = json.loads((tmp_path / "config.json").read_text())
    for setting in ("query_pre_attn_scalar", "rms_norm_eps", "hidden_activation"):
        described["text_config"].pop(setting, None)  # as uploads do where the default holds
    (tmp_path / "config.json").write_text(json.dumps(described))
    loaded = load_checkpoint(tmp_path)
    assert any("vision_tower" in name for name in loaded.report.unused)
    assert_close(our_logits(loaded), their_logits(model))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A vocabulary of 320 pieces with Gemma's first ids."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the soup was warm and the bread was fresh"] * 20),
        model_writer=model, model_type="bpe", vocab_size=VOCABULARY, byte_fallback=True,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>",
        bos_piece="<bos>", user_defined_symbols=["<start_of_turn>", "<end_of_turn>"],
        hard_vocab_limit=False, add_dummy_prefix=False, normalization_rule_name="identity",
        remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    return Tokenizer.from_bytes(model.getvalue())


@pytest.mark.parametrize("shard_bytes", [10**9, 20_000])
@pytest.mark.parametrize("name", TEXT_MODELS)
def test_gemkit_to_transformers(
    tmp_path: Path, name: str, shard_bytes: int,
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(TEXT_MODELS[name]())
    random_weights(model)
    model.save_pretrained(tmp_path / "theirs")
    loaded = load_checkpoint(tmp_path / "theirs")
    ours = tmp_path / "ours"
    monkeypatch.setattr(huggingface, "SHARD_BYTES", shard_bytes)
    save_checkpoint(ours, loaded.config, loaded.params, tokenizer)
    back, info = transformers.AutoModelForCausalLM.from_pretrained(
        ours, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_close(our_logits(loaded), their_logits(back))
    turn = tokenizer.token_to_id("<end_of_turn>")
    assert back.generation_config.eos_token_id == [1, turn]


def test_transformers_chats_as_we_do(tmp_path: Path, tokenizer: Tokenizer) -> None:
    huggingface.write_tokenizer(tmp_path, tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    parts = [{"type": "text", "text": " the bread "}, {"type": "text", "text": "was fresh"}]
    chat: list[dict[str, Any]] = [
        {"role": "system", "content": "soup\n"}, {"role": "user", "content": "\nthe soup "},
        {"role": "assistant", "content": "was warm"}, {"role": "user", "content": parts},
    ]  # fmt: skip
    for messages in (chat, chat[1:2], chat[1:]):
        text = theirs.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ours = chat_ids(tokenizer, messages)[0]
        assert tokenizer.encode(text, parse_special=True) == ours
        assert theirs(text, add_special_tokens=False)["input_ids"] == ours
    done = theirs.apply_chat_template(chat[1:3], tokenize=False)
    assert tokenizer.encode(done, parse_special=True) == chat_ids(tokenizer, chat[1:3], False)[0]
    with pytest.raises(Exception, match="must alternate"):
        theirs.apply_chat_template(chat[2:])


def test_transformers_reads_our_tokenizer(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = transformers.AutoModelForCausalLM.from_config(TEXT_MODELS["gemma"]())
    model.save_pretrained(tmp_path / "theirs")
    loaded = load_checkpoint(tmp_path / "theirs")
    save_checkpoint(tmp_path / "ours", loaded.config, loaded.params, tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (2, 1, 0)
    for text in ("the soup was warm", "  fresh bread\n", "수프 🍲", "the<end_of_turn>soup"):
        ids = tokenizer.encode(text, bos=True, parse_special=True)
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids[1:], skip_special_tokens=False) == text


KERAS_SIZES: dict[str, Any] = {
    "vocabulary_size": VOCABULARY, "num_query_heads": 4, "num_key_value_heads": 2,
    "hidden_dim": 48, "head_dim": 16,
}  # fmt: skip
POST_NORMS: dict[str, Any] = {"use_post_ffw_norm": True, "use_post_attention_norm": True}
BACKBONES: dict[str, Callable[..., Any]] = {
    "gemma": lambda **more: keras_hub.models.GemmaBackbone(
        **KERAS_SIZES, num_layers=3, intermediate_dim=160, **more
    ),
    "gemma2": lambda **more: keras_hub.models.GemmaBackbone(
        **KERAS_SIZES, **POST_NORMS, num_layers=4, intermediate_dim=160, sliding_window_size=4,
        use_sliding_window_attention=True, attention_logit_soft_cap=2.0,
        final_logit_soft_cap=8.0, **more,
    ),
    "gemma3": lambda **more: keras_hub.models.Gemma3Backbone(
        **KERAS_SIZES, **POST_NORMS, num_layers=7, intermediate_dim=80, image_size=28,
        sliding_window_size=4, use_sliding_window_attention=True,
        global_rope_scaling_factor=8.0, **more,
    ),
}  # fmt: skip


def random_backbone(name: str, **settings: Any) -> Any:
    backbone = BACKBONES[name](**settings)
    rng = np.random.default_rng(5)
    for variable in backbone.weights:
        variable.assign(rng.normal(size=variable.shape) * 0.3)
    return backbone


def keras_logits(backbone: Any) -> np.ndarray:
    tokens, segments = batch()
    states = backbone({"token_ids": tokens, "padding_mask": segments})
    table = backbone.token_embedding
    return np.asarray(table(states, reverse=True), np.float32)[segments > 0]


@pytest.mark.parametrize("shard_gigabytes", [10, 1e-4])
@pytest.mark.parametrize("name", BACKBONES)
def test_kerashub_to_gemkit(
    tmp_path: Path, name: str, shard_gigabytes: float, tokenizer: Tokenizer
) -> None:
    backbone = random_backbone(name, dtype="float32")
    backbone.save_to_preset(tmp_path, max_shard_size=shard_gigabytes)
    assert (tmp_path / "model.weights.json").exists() == (shard_gigabytes < 1)
    # KerasHub's tokenizer classes need TensorFlow; the file they write is the model itself.
    vocabulary = tmp_path / "assets" / "tokenizer" / "vocabulary.spm"
    vocabulary.parent.mkdir(parents=True)
    vocabulary.write_bytes(tokenizer.proto)
    loaded = load_checkpoint(tmp_path)
    assert loaded.tokenizer.proto == tokenizer.proto
    assert_close(our_logits(loaded), keras_logits(backbone))


def test_kerashub_bfloat16_to_gemkit(tmp_path: Path) -> None:
    backbone = random_backbone("gemma3", dtype="bfloat16")
    backbone.save_to_preset(tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert {leaf.dtype.name for _, leaf in flatten(loaded.params)} == {"bfloat16"}
    assert np.array_equal(loaded.params["embed"], backbone.token_embedding.embeddings.value)


def test_weights_of_a_whole_kerashub_task_to_gemkit(tmp_path: Path) -> None:
    backbone = random_backbone("gemma2", dtype="float32")
    backbone.save_to_preset(tmp_path)
    task = keras_hub.models.GemmaCausalLM(backbone, preprocessor=None)
    task.compile(optimizer=keras.optimizers.AdamW())
    task.save_weights(tmp_path / "model.weights.h5", overwrite=True)
    assert_close(our_logits(load_checkpoint(tmp_path)), keras_logits(backbone))


def test_merged_lora_weights_of_kerashub_to_gemkit(tmp_path: Path) -> None:
    backbone = random_backbone("gemma", dtype="float32")
    backbone.enable_lora(2)
    rng = np.random.default_rng(6)
    for variable in backbone.trainable_variables:
        variable.assign(rng.normal(size=variable.shape) * 0.1)
    backbone.save_to_preset(tmp_path)
    assert_close(our_logits(load_checkpoint(tmp_path)), keras_logits(backbone))

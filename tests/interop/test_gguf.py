"""llama.cpp runs our GGUF files as we do, and we run the files its quantiser makes.

Random models of every generation with the embedded model's vocabulary, windows shorter than the
text, caps low enough to bend; and the embedded model itself, whose answers are decided enough to
stay the same where llama.cpp also rounds what flows between layers: to 8 bits for quantised
matrices, to float16 or bfloat16 for those, and GELU by a table of float16 numbers in any case.
So logits agree as far as `NOISE` says, and answers to the last token.
"""

import dataclasses
import importlib.resources
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemkit.adapt.lora import Lora, attach, init_adapter
from gemkit.checkpoint.gguf.lora import read_adapter, write_adapter
from gemkit.checkpoint.load import Loaded, load_checkpoint
from gemkit.checkpoint.save import save_checkpoint
from gemkit.model import transformer
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params, flatten, specs, unflatten
from gemkit.text.chat import chat_ids
from gemkit.text.tokenizer import Tokenizer

llama_cpp = pytest.importorskip(
    "llama_cpp", reason="llama-cpp-python is not installed; make setup-llamacpp builds it"
)

# The usual difference of two logits, as a share of the usual logit (root mean squares).
NOISE = {"float32": 1e-3, "float16": 2e-3, "bfloat16": 2e-2, "q8_0": 6e-2, "q4_0": 6e-2}
LENGTH = 40
PROMPT = "def mean(values):\n    return"

SIZES: dict[str, Any] = {
    "hidden_size": 256, "intermediate_size": 512, "num_heads": 8, "num_kv_heads": 2,
    "head_dim": 32, "vocab_size": 4096, "query_scale": 32**-0.5, "max_positions": 256,
}  # fmt: skip
GEMMA2: dict[str, Any] = {
    "attention_pattern": ("local", "global"), "sliding_window": 6, "post_norms": True,
    "attn_logit_softcap": 3.0, "final_logit_softcap": 9.0,
}  # fmt: skip
GEMMA3: dict[str, Any] = {
    "attention_pattern": ("local",) * 5 + ("global",), "sliding_window": 6, "post_norms": True,
    "qk_norm": True, "rope_theta": 1e6,
}  # fmt: skip
CONFIGS = {
    # More rows than pieces, as Gemma 3 with vision has.
    "gemma": GemmaConfig(num_layers=3, **{**SIZES, "vocab_size": 4160}),
    "gemma scaled": GemmaConfig(num_layers=2, **SIZES, rope_theta=5e3, rope_scale=4.0),
    "gemma2": GemmaConfig(num_layers=4, **SIZES, **GEMMA2),
    "gemma3": GemmaConfig(num_layers=7, **SIZES, **GEMMA3),
    "gemma3 4b": GemmaConfig(
        num_layers=7, **SIZES, **GEMMA3, rope_scale=8.0, norm_eps=0.01, final_logit_softcap=9.0,
        rope_local_theta=5e3,
    ),
    "gemma3 global": GemmaConfig(
        num_layers=2, **SIZES, post_norms=True, qk_norm=True, rope_theta=1e5
    ),
}  # fmt: skip
# Few heads and many layers: by their number llama.cpp knows that queries are divided by D/N.
MANY_LAYERS = {
    "gemma2 27b": GemmaConfig(
        num_layers=46, **{**SIZES, **GEMMA2, "query_scale": 8**-0.5, "hidden_size": 64}
    ),
    "gemma3 27b": GemmaConfig(
        num_layers=62, **{**SIZES, **GEMMA3, "query_scale": 8**-0.5, "hidden_size": 64}
    ),
}


def random_params(config: GemmaConfig) -> Params:
    """Blocks speak louder than the embedding, else answers repeat the last token."""
    rng = np.random.default_rng(2)
    drawn = {}
    for path, spec in specs(config).items():
        scale = 0.1 if len(spec.shape) == 1 else 1.5 * spec.shape[-1] ** -0.5
        drawn[path] = jnp.asarray(rng.normal(size=spec.shape) * scale, jnp.float32)
        if ".post_" in path:
            drawn[path] += 2.0
        elif path.endswith((".o", ".down")):
            drawn[path] *= 3.0
    return unflatten(drawn)


@pytest.fixture(scope="module")
def nano() -> Loaded:
    """The embedded model."""
    with importlib.resources.as_file(importlib.resources.files("gemkit") / "presets/nano") as path:
        return load_checkpoint(path)


@pytest.fixture(scope="module")
def tokenizer(nano: Loaded) -> Tokenizer:
    assert nano.tokenizer is not None
    return nano.tokenizer


def _logits(params: Params, config: GemmaConfig, tokens: jax.Array) -> jax.Array:
    segments = jnp.ones_like(tokens)
    states = transformer.hidden(
        params, config, tokens, transformer.positions_of(segments), segments
    )  # fmt: skip
    return transformer.logits(params, config, states)[0]


_compiled = jax.jit(_logits, static_argnames="config")


def our_logits(params: Params, config: GemmaConfig, ids: list[int]) -> np.ndarray:
    """Float32 logits [T, V]; what is behind the text cannot be seen by it."""
    tokens = jnp.zeros((1, LENGTH), jnp.int32).at[0, : len(ids)].set(jnp.asarray(ids))
    # So many layers take longer to compile than to run.
    run = _compiled if config.num_layers < 10 else _logits
    return np.asarray(run(params, config, tokens))[: len(ids)]


def our_answer(params: Params, config: GemmaConfig, ids: list[int]) -> list[int]:
    """The text with the likeliest tokens behind it."""
    found = list(ids)
    while len(found) < LENGTH:
        found.append(int(our_logits(params, config, found)[-1].argmax()))
    return found


class Theirs:
    """A file in llama.cpp, its cache in float32."""

    def __init__(self, path: Path, **settings: Any) -> None:
        kind = llama_cpp.GGML_TYPE_F32
        self.model = llama_cpp.Llama(
            str(path), n_ctx=2 * LENGTH, n_batch=2 * LENGTH, n_threads=1, n_gpu_layers=0,
            logits_all=True, verbose=False, type_k=kind, type_v=kind, **settings,
        )  # fmt: skip

    def logits(self, ids: list[int]) -> np.ndarray:
        self.model.reset()
        self.model.eval(ids)
        return np.array(self.model.scores[: len(ids)])

    def answer(self, ids: list[int]) -> list[int]:
        found = list(ids)
        self.model.reset()
        self.model.eval(found)
        while len(found) < LENGTH:
            found.append(int(self.model.scores[self.model.n_tokens - 1].argmax()))
            self.model.eval(found[-1:])
        return found

    def tokens(self, text: str, special: bool = False) -> list[int]:
        found: list[int] = self.model.tokenize(text.encode(), add_bos=True, special=special)
        return found


@pytest.fixture
def theirs() -> Iterator[Any]:
    """theirs(path, …) → the file in llama.cpp, closed at the end."""
    opened: list[Theirs] = []

    def make(path: Path, **settings: Any) -> Theirs:
        opened.append(Theirs(path, **settings))
        return opened[-1]

    yield make
    for one in opened:
        one.model.close()


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def assert_close(ours: np.ndarray, others: np.ndarray, noise: float) -> None:
    assert ours.shape == others.shape
    assert rms(ours - others) <= noise * rms(ours)


@pytest.mark.parametrize("dtype", NOISE)
@pytest.mark.parametrize("name", CONFIGS)
def test_random_models(
    tmp_path: Path, name: str, dtype: str, tokenizer: Tokenizer, theirs: Any
) -> None:
    config = CONFIGS[name]
    path = tmp_path / "model.gguf"
    save_checkpoint(path, config, random_params(config), tokenizer, "gguf", dtype)
    loaded = load_checkpoint(path, "float32")
    assert loaded.config == config
    model, ids = theirs(path), tokenizer.encode(PROMPT, bos=True)
    answer = model.answer(ids)
    ours = our_logits(loaded.params, config, answer)
    assert_close(ours, model.logits(answer), NOISE[dtype])
    # A random model is undecided now and then: their choice is ours, or as good but for noise.
    best = ours[len(ids) - 1 : -1].max(1)
    chosen = ours[np.arange(len(ids) - 1, LENGTH - 1), answer[len(ids) :]]
    assert (best - chosen).max() <= 2 * NOISE[dtype] * rms(ours)
    assert (best == chosen).mean() > 0.9
    if dtype in ("float32", "float16"):
        assert answer == our_answer(loaded.params, config, ids)


@pytest.mark.parametrize("name", MANY_LAYERS)
def test_the_scale_of_queries_follows_the_number_of_layers(
    tmp_path: Path, name: str, tokenizer: Tokenizer, theirs: Any
) -> None:
    config = MANY_LAYERS[name]
    path = tmp_path / "model.gguf"
    # Blocks so many and so loud would drown a difference in noise.
    params = jax.tree.map(lambda leaf: leaf * 0.5, random_params(config))
    save_checkpoint(path, config, params, tokenizer, "gguf")
    ids = tokenizer.encode(PROMPT, bos=True)
    expected = theirs(path).logits(ids)
    assert_close(our_logits(params, config, ids), expected, 4e-3)
    usual = dataclasses.replace(config, query_scale=config.head_dim**-0.5)
    with pytest.raises(AssertionError):
        assert_close(our_logits(params, usual, ids), expected, 0.1)


@pytest.mark.parametrize("dtype", NOISE)
def test_the_embedded_model(tmp_path: Path, dtype: str, nano: Loaded, theirs: Any) -> None:
    path = tmp_path / "nano.gguf"
    save_checkpoint(path, nano.config, nano.params, nano.tokenizer, "gguf", dtype)
    loaded, model = load_checkpoint(path, "float32"), theirs(path)
    ids = model.tokens(PROMPT)
    answer = model.answer(ids)
    assert answer == our_answer(loaded.params, loaded.config, ids)
    ours = our_logits(loaded.params, loaded.config, answer)
    assert_close(ours, model.logits(answer), NOISE[dtype])


TEXTS = (
    "def f(x):\n    return x\n\n\n", "  two   spaces,\tone tab", "수프 🍲 é", " ", "a" * 50,
    "<h1>title</h1> <b>x</b>", " " * 40 + "deep", "\n" * 70, "5,61 and 1234\r\n",
)  # fmt: skip
STEERING = (
    "<start_of_turn>user\nhi<end_of_turn>\n", "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
    "<unused7> <mask>[@BOS@]<eos>",
)  # fmt: skip


def test_the_vocabulary(tmp_path: Path, nano: Loaded, tokenizer: Tokenizer, theirs: Any) -> None:
    save_checkpoint(tmp_path / "nano.gguf", nano.config, nano.params, tokenizer, "gguf")
    model = theirs(tmp_path / "nano.gguf")
    for text in TEXTS:
        assert model.tokens(text) == tokenizer.encode(text, bos=True), text
    for text in (*TEXTS, *STEERING):
        ids = tokenizer.encode(text, bos=True, parse_special=True)
        assert model.tokens(text, special=True) == ids, text
        assert model.model.detokenize(ids, special=True).decode() == "<bos>" + text
    # What was typed is never a turn, there as here.
    turn = tokenizer.end_of_turn_id
    assert not any(turn in model.tokens(text) for text in STEERING)
    assert model.model.token_eos() == tokenizer.eos_id
    metadata = model.model.metadata
    assert metadata["tokenizer.ggml.fim_mid_token_id"] == str(
        tokenizer.token_to_id("<|fim_middle|>")
    )


CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " What is 수프?\n"},
    {"role": "assistant", "content": "Soup."},
    {"role": "user", "content": [{"type": "text", "text": "Thank you. "}]},
]


def test_the_chat_template(tmp_path: Path, nano: Loaded, tokenizer: Tokenizer, theirs: Any) -> None:
    """As Python renders it and as llama.cpp, which knows templates by their markers, does."""
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    save_checkpoint(tmp_path / "nano.gguf", nano.config, nano.params, tokenizer, "gguf")
    model = theirs(tmp_path / "nano.gguf").model
    template = model.metadata["tokenizer.chat_template"]
    render = Jinja2ChatFormatter(template, "<eos>", "<bos>")
    for messages in (CHAT, CHAT[1:2]):
        prompt = render(messages=messages).prompt  # type: ignore[arg-type]
        found = model.tokenize(prompt.encode(), add_bos=False, special=True)
        assert found == chat_ids(tokenizer, messages)[0]
    with pytest.raises(ValueError, match="must alternate"):
        render(messages=CHAT[2:])  # type: ignore[arg-type]
    turns = [(b"user", b"hi"), (b"assistant", b"hello"), (b"user", b"bye")]
    given = (llama_cpp.llama_chat_message * 3)(*turns)
    buffer = llama_cpp.ctypes.create_string_buffer(1000)
    length = llama_cpp.llama_chat_apply_template(template.encode(), given, 3, True, buffer, 1000)
    texts = [{"role": role.decode(), "content": text.decode()} for role, text in turns]
    rendered = b"<bos>" + buffer.raw[:length]
    assert model.tokenize(rendered, add_bos=False, special=True) == chat_ids(tokenizer, texts)[0]


# What their quantiser makes, the types in the file besides F32, and how far weights may move.
QUANTISED = {
    "Q8_0": ({"Q8_0"}, 0.01), "Q6_K": ({"Q6_K"}, 0.03), "Q5_K_M": ({"Q5_K", "Q6_K"}, 0.05),
    "Q4_K_M": ({"Q4_K", "Q6_K"}, 0.1), "Q4_K_S": ({"Q4_K", "Q5_K", "Q6_K"}, 0.1),
    "Q5_0": ({"Q5_0", "Q6_K"}, 0.06), "Q5_1": ({"Q5_1", "Q6_K"}, 0.05),
    "Q4_0": ({"Q4_0", "Q6_K"}, 0.12), "Q4_1": ({"Q4_1", "Q6_K"}, 0.1),
}  # fmt: skip


@pytest.mark.parametrize("kind", QUANTISED)
def test_files_of_their_quantiser(
    tmp_path: Path, kind: str, tokenizer: Tokenizer, theirs: Any
) -> None:
    from gemkit.checkpoint.gguf.header import read_header

    config = CONFIGS["gemma3"]
    params, (types, error) = random_params(config), QUANTISED[kind]
    save_checkpoint(tmp_path / "model.gguf", config, params, tokenizer, "gguf")
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    settings.nthread = 1
    path = tmp_path / "quantised.gguf"
    files = (str(tmp_path / "model.gguf").encode(), str(path).encode())
    assert llama_cpp.llama_model_quantize(*files, settings) == 0
    found = {info.kind.name for info in read_header(path).tensors.values()}
    assert found - {"F32"} <= types and kind[:4] in {name[:4] for name in found}
    loaded = load_checkpoint(path, "float32")
    assert loaded.config == config
    before = dict(flatten(params))
    for name, leaf in flatten(loaded.params):
        size = float(jnp.sqrt(jnp.mean(before[name] ** 2)))
        moved = float(jnp.sqrt(jnp.mean((leaf - before[name]) ** 2)))
        assert moved <= error * size, name
    ids = tokenizer.encode(PROMPT, bos=True)
    ours = our_logits(loaded.params, config, ids)
    assert_close(ours, theirs(path).logits(ids), NOISE["q4_0"])


@pytest.mark.parametrize("name", ["gemma", "gemma2", "gemma3"])
def test_adapters(tmp_path: Path, name: str, tokenizer: Tokenizer, theirs: Any) -> None:
    config = CONFIGS[name]
    params, rng = random_params(config), np.random.default_rng(9)
    lora = Lora(rank=4, alpha=6.0, rslora=True, rank_pattern={"q": 2, "down": 8})
    adapter = {
        path: {key: jnp.asarray(rng.normal(size=x.shape) * 0.06, "float32") for key, x in p.items()}
        for path, p in init_adapter(config, lora, 0).items()
    }
    save_checkpoint(tmp_path / "model.gguf", config, params, tokenizer, "gguf")
    assert write_adapter(tmp_path / "adapter.gguf", config, lora, adapter)
    ids = tokenizer.encode(PROMPT, bos=True)
    model = theirs(tmp_path / "model.gguf", lora_path=str(tmp_path / "adapter.gguf"))
    expected = model.logits(ids)
    assert_close(our_logits(attach(params, adapter, lora), config, ids), expected, 2e-3)
    with pytest.raises(AssertionError):
        assert_close(our_logits(params, config, ids), expected, 0.1)
    read, back = read_adapter(tmp_path / "adapter.gguf", config)
    assert_close(our_logits(attach(params, back, read), config, ids), expected, 2e-3)

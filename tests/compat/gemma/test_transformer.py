"""The forward pass of 2024, beside its formulas written out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

import gemkit.compat.gemma.params as params_lib
from gemkit.checkpoint.save import save_checkpoint
from gemkit.compat.gemma import transformer as transformer_lib
from gemkit.compat.gemma.tree import from_tree, to_tree
from gemkit.errors import UsageError
from gemkit.language_model import LanguageModel
from gemkit.model import transformer as engine
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import flatten

SIZES: dict[str, Any] = {
    "num_layers": 2, "hidden_size": 24, "intermediate_size": 20, "head_dim": 8,
    "vocab_size": tiny.VOCABULARY, "query_scale": 8**-0.5,
}  # fmt: skip
# Grouped heads have q_einsum and kv_einsum, equal ones qkv_einsum.
GROUPED = GemmaConfig(num_heads=4, num_kv_heads=2, **SIZES)
EQUAL = GemmaConfig(num_heads=3, num_kv_heads=3, **SIZES)
ROWS = np.asarray([[2, *tiny.ids(6), 0, 0], [2, *tiny.ids(8, seed=1)]], np.int32)


def model(config: GemmaConfig) -> tuple[transformer_lib.Transformer, params_lib.Params]:
    """The model and its parameters as the shim has them."""
    tree = params_lib.Params({"transformer": to_tree(config, tiny.weights(config))}, config)
    return transformer_lib.Transformer(transformer_lib.TransformerConfig.from_params(tree)), tree


def formulas(tree: Mapping[str, Any], tokens: np.ndarray, positions: Any, mask: Any) -> Any:
    """Gemma 1 as the package of 2024 computed it, in float32."""

    def norm(x: Any, scale: Any) -> Any:
        return x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6) * (1 + scale)

    def rope(x: Any) -> Any:
        half = x.shape[-1] // 2
        steps = 10_000 ** (2 * jnp.arange(half) / x.shape[-1])
        angle = positions[..., None, None] / steps
        one, two = x[..., :half], x[..., half:]
        return jnp.concatenate(
            [one * jnp.cos(angle) - two * jnp.sin(angle),
             two * jnp.cos(angle) + one * jnp.sin(angle)], -1,
        )  # fmt: skip

    table = tree["embedder"]["input_embedding"]
    x = table[tokens] * jnp.sqrt(float(table.shape[1]))
    for number in range(len(tree) - 2):
        layer = tree[f"layer_{number}"]
        attn, y = layer["attn"], norm(x, layer["pre_attention_norm"]["scale"])
        if "qkv_einsum" in attn:
            q, k, v = jnp.einsum("BTD,SNDH->SBTNH", y, attn["qkv_einsum"]["w"])
        else:
            q = jnp.einsum("BTD,NDH->BTNH", y, attn["q_einsum"]["w"])
            k, v = jnp.einsum("BSD,CKDH->CBSKH", y, attn["kv_einsum"]["w"])
        q = rope(q) * q.shape[-1] ** -0.5
        group = q.shape[2] // k.shape[2]
        k, v = jnp.repeat(rope(k), group, 2), jnp.repeat(v, group, 2)
        scores = jnp.einsum("BTNH,BSNH->BNTS", q, k)
        scores = jnp.where(mask[:, None], scores, -2.3819763e38)
        mixed = jnp.einsum("BNTS,BSNH->BTNH", jax.nn.softmax(scores, -1), v)
        x = x + jnp.einsum("BTNH,NHD->BTD", mixed, attn["attn_vec_einsum"]["w"])
        y = norm(x, layer["pre_ffw_norm"]["scale"])
        gate, up = layer["mlp"]["gating_einsum"]
        x = x + jax.nn.gelu(y @ gate) * (y @ up) @ layer["mlp"]["linear"]
    return norm(x, tree["final_norm"]["scale"]) @ table.T


@pytest.mark.parametrize("config", [GROUPED, EQUAL], ids=["grouped", "equal"])
def test_logits_and_gradients_are_those_of_the_formulas(config: GemmaConfig) -> None:
    shim, tree = model(config)
    seen = jnp.asarray(ROWS != 0)
    positions = transformer_lib.build_positions_from_mask(seen)
    mask = transformer_lib.make_causal_attn_mask(seen)
    # Whatever the mask hides is hidden: here the third token from all others, too.
    mask = mask.at[:, 3:, 2].set(False)

    def ours(params: Any) -> Any:
        logits, cache = shim.apply(params, jnp.asarray(ROWS), positions, None, mask)
        assert cache is None
        return logits

    weights = jnp.asarray(
        np.random.default_rng(0).normal(size=(*ROWS.shape, tiny.VOCABULARY)), "float32"
    )

    def both(logits: Any) -> Any:
        return (logits * weights).sum(), logits

    def slope(forward: Any) -> Any:
        return jax.jit(jax.grad(lambda t: both(forward(t)), has_aux=True))(tree["transformer"])

    with jax.numpy_dtype_promotion("standard"):
        slopes, wanted = slope(lambda t: formulas(t, ROWS, positions, mask))
    own, found = slope(lambda t: ours({"params": t}))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, atol=2e-4 * float(np.abs(wanted).max()))
    assert jax.tree.structure(own) == jax.tree.structure(slopes)
    for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(slopes), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3 * float(np.abs(b).max()))


def test_positions_and_masks() -> None:
    seen = jnp.asarray([[True, True, False], [False, True, True]])
    positions = transformer_lib.build_positions_from_mask(seen)
    assert positions.tolist() == [[0, 1, 1], [0, 0, 1]]
    mask = transformer_lib.make_causal_attn_mask(seen)
    assert mask[0].tolist() == [[True, False, False], [True, True, False], [True, True, False]]
    assert mask[1].tolist() == [[False] * 3, [False, True, False], [False, True, True]]


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_every_generation_runs_as_on_the_engine(name: str) -> None:
    """Windows, caps, norms and rotary bases go with the parameters."""
    config = tiny.CONFIGS[name]
    shim, tree = model(config)
    tokens = jnp.asarray([[2, *tiny.ids(11)]], jnp.int32)
    ones = jnp.ones_like(tokens)
    found, _ = jax.jit(shim.apply)(
        {"params": tree["transformer"]}, tokens, engine.positions_of(ones), None,
        transformer_lib.make_causal_attn_mask(ones > 0),
    )  # fmt: skip
    lm = LanguageModel("tiny", config, tiny.weights(config), None)
    np.testing.assert_allclose(found, lm.logits(tokens), atol=1e-3)


@pytest.mark.parametrize("config", [GROUPED, EQUAL, *tiny.CONFIGS.values()])
def test_the_tree_and_back(config: GemmaConfig) -> None:
    weights = tiny.weights(config)
    back = dict(flatten(from_tree(config, to_tree(config, weights))))
    for path, leaf in flatten(weights):
        assert np.array_equal(back[path], leaf), path


def test_configuration_from_shapes_alone() -> None:
    """A plain dict forgets what no shape shows; sizes and Gemma 1's rules remain."""
    _, tree = model(GROUPED)
    plain = {"transformer": tree["transformer"]}
    found = transformer_lib.TransformerConfig.from_params(plain, cache_size=30)
    assert (found.num_layers, found.embed_dim, found.hidden_dim) == (2, 24, 20)
    assert (found.num_heads, found.num_kv_heads, found.head_dim) == (4, 2, 8)
    assert found.num_embed == tiny.VOCABULARY and found.max_cache_length == 30
    assert found.gemma.query_scale == GROUPED.query_scale and not found.gemma.post_norms
    _, equal = model(EQUAL)
    shapes = transformer_lib.TransformerConfig.from_params({"transformer": equal["transformer"]})
    assert shapes.num_heads == shapes.num_kv_heads == 3
    by_hand = transformer_lib.TransformerConfig(2, tiny.VOCABULARY, 24, 20, 4, 8, 2)
    assert by_hand.gemma.layer_kinds == ("global", "global")
    assert transformer_lib.TransformerConfig.gemma_2b(30).num_embed == 256_000


def test_parameters_from_a_checkpoint(tmp_path: Path) -> None:
    config = tiny.GEMMA2
    save_checkpoint(tmp_path / "2b", config, tiny.weights(config), None, "flax")
    params = params_lib.load_and_format_params(str(tmp_path / "2b"))
    layer = params["transformer"]["layer_0"]
    assert layer["attn"]["q_einsum"]["w"].shape == (4, 24, 8)
    assert layer["attn"]["kv_einsum"]["w"].shape == (2, 2, 24, 8)
    assert layer["mlp"]["gating_einsum"].shape == (2, 24, 20)
    doubled = jax.tree.map(lambda leaf: leaf * 2, params)
    assert isinstance(doubled, params_lib.Params) and doubled.config == config
    assert transformer_lib.TransformerConfig.from_params(doubled).gemma == config


def test_a_loop_written_by_hand_learns() -> None:
    """A jitted step over the shim, the model and the optimizer being static, as notebooks do."""
    shim, tree = model(GROUPED)
    params, optimizer = {"params": tree["transformer"]}, optax.sgd(0.01)
    state = optimizer.init(params)
    tokens = jnp.asarray(ROWS[1:])

    def loss(params: Any, model: Any, tokens: Any) -> Any:
        seen = tokens != 0
        logits, _ = model.apply(
            params, tokens, transformer_lib.build_positions_from_mask(seen), None,
            transformer_lib.make_causal_attn_mask(seen),
        )  # fmt: skip
        wanted = jax.nn.one_hot(tokens[0, 1:], logits.shape[-1])
        return -(jax.nn.log_softmax(logits[0, :-1]) * wanted).sum() / len(wanted)

    def step(model: Any, optimizer: Any, params: Any, state: Any, tokens: Any) -> Any:
        value, slopes = jax.value_and_grad(loss)(params, model, tokens)
        updates, state = optimizer.update(slopes, state)
        return value, optax.apply_updates(params, updates), state

    jitted = jax.jit(step, static_argnames=["model", "optimizer"])
    losses = []
    for _ in range(6):
        value, params, state = jitted(shim, optimizer, params, state, tokens)
        losses.append(float(value))
    assert losses[-1] < losses[0] - 0.1 and np.all(np.diff(losses) < 0)


def test_errors() -> None:
    shim, tree = model(GROUPED)
    tokens = jnp.asarray(ROWS)
    seen = tokens != 0
    rest = (
        tokens, transformer_lib.build_positions_from_mask(seen), None,
        transformer_lib.make_causal_attn_mask(seen),
    )  # fmt: skip
    with pytest.raises(UsageError, match="'params'"):
        shim.apply(tree, *rest)
    with pytest.raises(UsageError, match="no embedder/input_embedding"):
        shim.apply({"params": tree}, *rest)
    with pytest.raises(UsageError, match="use Sampler"):
        shim.apply({"params": tree["transformer"]}, tokens, rest[1], {}, rest[3])
    with pytest.raises(UsageError, match="use Sampler"):
        shim.init_cache(1)
    with pytest.raises(UsageError, match="'transformer' at the top"):
        transformer_lib.TransformerConfig.from_params(tree["transformer"])

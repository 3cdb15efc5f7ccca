"""The `gemma` package of google-deepmind/gemma loads what we write, with our logits, and the
reverse; its LoRA too.

`gemma` imports TensorFlow, through kauldron, only to name types: installed without TensorFlow, it
finds empty stand-ins here. Where `gemma` is not installed the tests are skipped.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemkit.adapt.lora import Lora, attach, init_adapter
from gemkit.checkpoint.flax.lora import read_adapter, write_adapter
from gemkit.checkpoint.load import load_checkpoint
from gemkit.checkpoint.save import save_checkpoint
from gemkit.model.config import GemmaConfig
from gemkit.model.transformer import hidden, logits
from gemkit.model.weights import Params, specs, unflatten

pytestmark = pytest.mark.filterwarnings("default")

# What kauldron imports for data, charts and clusters.
ABSENT = {
    name
    for name in """tensorflow tensorflow_datasets tensorboard pandas altair mediapy xmanager
        matplotlib IPython requests tqdm tabulate""".split()
    if importlib.util.find_spec(name) is None
}


class _Empty(types.ModuleType):
    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *args, **kwargs: None})


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name.split(".")[0] not in ABSENT:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


@pytest.fixture(scope="module")
def gm() -> Any:
    """gemma.gm."""
    if importlib.util.find_spec("gemma") is None:
        pytest.skip("the gemma package is not installed")
    finder = _StandIns()
    sys.meta_path.insert(0, finder)
    try:
        from kauldron import kd

        # kauldron 1.4 renamed what gemma 3.3 knows by its old name.
        kd.ckpts.AbstractPartialLoader = kd.ckpts.InitTransform
        from gemma import gm
        from gemma.gm.nn import _transformer  # noqa: F401  (lazy imports happen here)

        _ = gm.ckpts.load_params, gm.nn.LoRA
        yield gm
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.split(".")[0] in ABSENT]:
            del sys.modules[name]


SIZES: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 40, "num_heads": 4, "num_kv_heads": 2, "head_dim": 16,
    "vocab_size": 97,
}  # fmt: skip
GEMMA2: dict[str, Any] = {
    "attention_pattern": ("local", "global"), "sliding_window": 5, "attn_logit_softcap": 2.0,
    "final_logit_softcap": 8.0, "post_norms": True,
}  # fmt: skip
MODELS = {
    "gemma": GemmaConfig(num_layers=2, query_scale=16**-0.5, **SIZES),
    "gemma fused": GemmaConfig(num_layers=2, query_scale=16**-0.5, **SIZES | {"num_kv_heads": 4}),
    "gemma2": GemmaConfig(num_layers=3, query_scale=16**-0.5, **SIZES, **GEMMA2),
    "gemma2 27b": GemmaConfig(num_layers=3, query_scale=12**-0.5, **SIZES, **GEMMA2),
    "gemma3": GemmaConfig(
        num_layers=3, query_scale=16**-0.5, **SIZES, sliding_window=5, qk_norm=True,
        attention_pattern=("local", "local", "global"), post_norms=True, rope_theta=1e6,
        rope_scale=8.0,
    ),
}  # fmt: skip


def weights(config: GemmaConfig) -> Params:
    draw = np.random.default_rng(7)
    drawn = {path: draw.normal(size=spec.shape) * 0.3 for path, spec in specs(config).items()}
    return unflatten({path: jnp.asarray(leaf, jnp.float32) for path, leaf in drawn.items()})


def random_like(tree: Any) -> Any:
    draw = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.float32(draw.normal(size=leaf.shape) * 0.3), tree)


def their_model(gm: Any, config: GemmaConfig) -> Any:
    from gemma.gm.nn import _config, _modules, _transformer

    c, kinds, rule = config, _modules.AttentionType, _config.QueryPreAttentionNormalisation
    described = _config.TransformerConfig(
        num_embed=c.vocab_size, embed_dim=c.hidden_size, hidden_dim=c.intermediate_size,
        num_heads=c.num_heads, head_dim=c.head_dim, num_kv_heads=c.num_kv_heads,
        final_logit_softcap=c.final_logit_softcap, use_post_attn_norm=c.post_norms,
        use_post_ffw_norm=c.post_norms, use_qk_norm=c.qk_norm,
        attention_types=tuple(
            kinds.GLOBAL if kind == "global" else kinds.LOCAL_SLIDING for kind in c.layer_kinds
        ),
        query_pre_attn_norm=rule.BY_ONE_OVER_SQRT_HEAD_DIM
        if c.query_scale == c.head_dim**-0.5
        else rule.BY_ONE_OVER_SQRT_EMBED_DIM_DIV_NUM_HEADS,
        attn_logits_soft_cap=c.attn_logit_softcap, sliding_window_size=c.sliding_window,
        transpose_gating_einsum=c.qk_norm, global_base_frequency=int(c.rope_theta),
        local_base_frequency=int(c.rope_local_theta), global_scale_factor=c.rope_scale,
    )  # fmt: skip
    return _transformer.Transformer(config=described, dtype=jnp.float32, tokens="batch.tokens")


def tokens() -> jax.Array:
    return jnp.asarray(np.random.default_rng(3).integers(4, 97, (2, 19)), jnp.int32)


def our_logits(params: Params, config: GemmaConfig) -> np.ndarray:
    ids = tokens()
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1], dtype=jnp.int32), ids.shape)

    def run(params: Params) -> jax.Array:
        states = hidden(params, config, ids, positions, jnp.ones_like(ids))
        return logits(params, config, states)

    return np.asarray(jax.jit(run)(params))


def their_logits(model: Any, params: Any) -> np.ndarray:
    run = jax.jit(lambda tree: model.apply({"params": tree}, tokens()).logits)
    return np.asarray(run(params))


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape and np.abs(theirs).max() > 1
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("name", MODELS)
def test_ours_loads_there(tmp_path: Path, gm: Any, name: str) -> None:
    config = MODELS[name]
    params = weights(config)
    save_checkpoint(tmp_path / "c", config, params, None, "flax")
    model = their_model(gm, config)
    drawn = jax.eval_shape(lambda: model.init(jax.random.key(0), tokens())["params"])
    loaded = gm.ckpts.load_params(tmp_path / "c")
    assert jax.tree.map(jnp.shape, loaded) == jax.tree.map(jnp.shape, drawn)
    assert_close(our_logits(params, config), their_logits(model, loaded))


@pytest.mark.parametrize("layout", ["nested", "flat"])
@pytest.mark.parametrize("name", MODELS)
def test_theirs_loads_here(tmp_path: Path, gm: Any, name: str, layout: str) -> None:
    from gemma.gm.ckpts import _checkpoint

    config = MODELS[name]
    model = their_model(gm, config)
    drawn = jax.eval_shape(lambda: model.init(jax.random.key(0), tokens())["params"])
    drawn = random_like(drawn)
    tree = drawn if layout == "nested" else _checkpoint._nested_to_flat(drawn)
    gm.ckpts.save_params(tree, tmp_path / "c", wait_until_finished=True)
    loaded = load_checkpoint(tmp_path / "c")
    # No shape shows the window and the caps of these models.
    assert_close(our_logits(loaded.params, config), their_logits(model, drawn))


@pytest.mark.parametrize("name", ["gemma fused", "gemma3"])
def test_our_adapter_there_and_theirs_here(tmp_path: Path, gm: Any, name: str) -> None:
    config = MODELS[name]
    params = weights(config)
    save_checkpoint(tmp_path / "base", config, params, None, "flax")
    lora = Lora(rank=3, alpha=4.5, targets=("q", "v", "gate", "layers.1.*"))
    fresh = init_adapter(config, lora, seed=0)
    draw = np.random.default_rng(2)
    adapter = {
        path: {"a": pair["a"], "b": jnp.asarray(draw.normal(size=pair["b"].shape), jnp.float32)}
        for path, pair in fresh.items()
    }
    (tmp_path / "lora").mkdir()
    write_adapter(tmp_path / "lora", config, lora, adapter)
    ours = our_logits(attach(params, adapter, lora), config)
    assert np.abs(ours - our_logits(params, config)).max() > 1

    from gemma import peft

    base, theirs = (gm.ckpts.load_params(tmp_path / name) for name in ("base", "lora"))
    rank = theirs["layer_0"]["mlp"]["_LoRAEinsum_linear"]["lora"]["b"].shape[0]
    model = gm.nn.LoRA(rank=rank, model=their_model(gm, config), dtype=jnp.float32)
    drawn = jax.eval_shape(lambda: model.init(jax.random.key(0), tokens())["params"])
    merged = peft.merge_params(base, theirs)
    assert jax.tree.map(jnp.shape, merged) == jax.tree.map(jnp.shape, drawn)
    assert_close(ours, their_logits(model, merged))

    tuned = random_like(theirs)
    gm.ckpts.save_params(tuned, tmp_path / "tuned", wait_until_finished=True)
    read, leaves = read_adapter(tmp_path / "tuned", config)
    assert_close(
        our_logits(attach(params, leaves, read), config),
        their_logits(model, peft.merge_params(base, tuned)),
    )

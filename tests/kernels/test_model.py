"""The whole model with kernels against the model in plain JAX, in bfloat16."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import GEMMA2, VOCABULARY, weights

from gemkit.adapt.lora import Lora, attach, init_adapter
from gemkit.kernels import native
from gemkit.model import linear, transformer
from gemkit.model.weights import flatten, unflatten
from gemkit.train import loss as losses
from gemkit.train.loss import cross_entropy

pytestmark = pytest.mark.skipif(
    native.reason_against() is not None, reason=str(native.reason_against())
)
ROWS, LENGTH, DRAWS = 2, 12, 16
Found = list[tuple[jax.Array, dict[str, jax.Array]]]


def loss_and_slopes(adapted: bool, remat: Any = "off", dtype: str = "bfloat16") -> Found:
    """Of an adapter's loss, or of that of all weights, for several draws of tokens."""
    rounded = {path: leaf.astype(jnp.bfloat16) for path, leaf in flatten(weights(GEMMA2))}
    base = unflatten({path: leaf.astype(dtype) for path, leaf in rounded.items()})
    lora = Lora(rank=2)
    draw = np.random.default_rng(0)
    drawn = jnp.asarray(draw.integers(2, VOCABULARY, (DRAWS, ROWS, LENGTH)), jnp.int32)
    segments = jnp.ones((ROWS, LENGTH), jnp.int32)
    trained: Any = base
    if adapted:
        fresh = init_adapter(GEMMA2, lora, seed=0)
        trained = jax.tree.map(lambda leaf: leaf + 0.1, fresh)

    @jax.jit
    @jax.value_and_grad
    def loss(trained: Any, tokens: jax.Array) -> jax.Array:
        params = attach(base, trained, lora) if adapted else trained
        states = transformer.hidden(
            params, GEMMA2, tokens, transformer.positions_of(segments), segments, remat=remat
        )
        sums = cross_entropy(
            params["embed"], GEMMA2, states.reshape(-1, states.shape[-1]),
            jnp.roll(tokens, -1, 1).reshape(-1), jnp.ones(ROWS * LENGTH, jnp.float32),
            frozen_head=adapted,
        )  # fmt: skip
        return sums.loss / sums.weight

    found = [loss(trained, tokens) for tokens in drawn]
    return [(value, dict(flatten(slopes))) for value, slopes in found]


@pytest.fixture(scope="module", params=[True, False], ids=["adapter", "all"])
def exact(request: Any) -> tuple[bool, Found]:
    """Whether an adapter is trained, and what is found in float32."""
    return request.param, loss_and_slopes(request.param, dtype="float32")


@pytest.mark.parametrize("remat", ["off", "layer", "full"])
def test_loss_and_gradients(
    exact: tuple[bool, Found], remat: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted, wanted = exact
    ours = _distances(loss_and_slopes(adapted, remat), wanted)
    for room in (linear, losses):
        monkeypatch.setattr(room, "takes", lambda x, weight: False)
    theirs = _distances(loss_and_slopes(adapted, remat), wanted)
    # Both round to bfloat16 at every step, each in its own order: neither farther off.
    for path, distance in theirs.items():
        room = 0.001 if path == "loss" else 0.002
        assert ours[path] < 1.2 * distance + room, (path, ours[path], distance)


def _distances(found: Found, exact: Found) -> dict[str, float]:
    """Relative to what is exact, of the loss and of every leaf's slope; the mean of the draws."""
    sums: dict[str, float] = {}
    for (value, slopes), (exact_value, exact_slopes) in zip(found, exact, strict=True):
        pairs = {"loss": (value, exact_value)}
        pairs |= {path: (slopes[path], wanted) for path, wanted in exact_slopes.items()}
        for path, pair in pairs.items():
            sums[path] = sums.get(path, 0.0) + _distance(*pair) / DRAWS
    return sums


def _distance(slope: jax.Array, exact: jax.Array) -> float:
    wanted = np.asarray(exact, np.float32).ravel()
    away = np.linalg.norm(np.asarray(slope, np.float32).ravel() - wanted)
    return float(away / (np.linalg.norm(wanted) + 1e-12))

"""Small random models in the formats that notebooks load."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from toy_vocabulary import small_vocabulary

from gemkit.checkpoint.save import save_checkpoint
from gemkit.compat.keras_nlp.models import GemmaCausalLM
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params, specs, unflatten

CONFIG = GemmaConfig(
    num_layers=2, hidden_size=24, intermediate_size=40, num_heads=4, num_kv_heads=2, head_dim=8,
    vocab_size=320, query_scale=8**-0.5, max_positions=256,
)  # fmt: skip


def random_weights(config: GemmaConfig = CONFIG) -> Params:
    """Weights large enough for answers to depend on the prompt."""
    draw = np.random.default_rng(5)
    leaves: dict[str, Any] = {
        path: jnp.asarray(draw.normal(size=spec.shape) * 0.25, "float32")
        for path, spec in specs(config).items()
    }
    return unflatten(leaves)


@pytest.fixture(scope="session")
def preset(compiled: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Gemma 1 as a Keras preset; its vocabulary has 320 pieces."""
    folder = tmp_path_factory.mktemp("compat") / "preset"
    save_checkpoint(folder, CONFIG, random_weights(), small_vocabulary(), "keras")
    return folder


@pytest.fixture
def lm(preset: Path) -> GemmaCausalLM:
    """The model with rows of 16 tokens."""
    model = GemmaCausalLM.from_preset(preset)
    assert model.preprocessor is not None
    model.preprocessor.sequence_length = 16
    return model

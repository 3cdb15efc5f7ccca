"""KerasHub and transformers with PEFT, carrying the same random weights as gemkit."""

import importlib.util
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from measure import Seconds

from gemkit.checkpoint.names import cells
from gemkit.checkpoint.save import save_checkpoint
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params, flatten, specs

KERAS, PEFT = "KerasHub", "transformers + PEFT"
MODULES = {KERAS: ("keras_hub",), PEFT: ("torch", "transformers", "peft")}
LEARNING_RATE, DECAY, RANK = 5e-5, 0.01, 4


def installed(name: str) -> bool:
    """Whether a rival is installed; without it gemkit's side is measured alone."""
    return all(importlib.util.find_spec(module) is not None for module in MODULES[name])


def keras_model(config: GemmaConfig, params: Params, dtype: str = "float32") -> Any:
    """A KerasHub GemmaCausalLM without a preprocessor that carries a copy of `params`.

    Keras keeps its variables in the order of the weights table, which saves a table of names;
    a wrong one would not fit in shape, and decoding compares the answers.
    """
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras_hub

    # Its data loader warns about its own default settings.
    logging.getLogger("absl").setLevel(logging.ERROR)
    backbone = keras_hub.models.GemmaBackbone(
        vocabulary_size=config.vocab_size, num_layers=config.num_layers,
        num_query_heads=config.num_heads, num_key_value_heads=config.num_kv_heads,
        hidden_dim=config.hidden_size, intermediate_dim=2 * config.intermediate_size,
        head_dim=config.head_dim, dtype=dtype,
    )  # fmt: skip
    leaves, layouts = dict(flatten(params)), cells(config, "keras")
    for variable, path in zip(backbone.weights, specs(config), strict=True):
        stored = layouts[path].layout.store(leaves[path], config.head_dim)
        # Keras gives its buffers away to each training step; ours must not be among them.
        variable.assign(jnp.array(stored, copy=True))
    model = keras_hub.models.GemmaCausalLM(backbone=backbone, preprocessor=None)
    model.compile(sampler="greedy")
    return model


def keras_inputs(ids: Sequence[Sequence[int]], length: int) -> dict[str, np.ndarray]:
    """What a KerasHub preprocessor would give: ids padded on the right to `length`, and a mask."""
    tokens, mask = np.zeros((2, len(ids), length), np.int32)
    for row, sequence in enumerate(ids):
        tokens[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return {"token_ids": tokens, "padding_mask": mask}


def keras_step(
    config: GemmaConfig, params: Params, ids: np.ndarray, targets: int, row: int
) -> Callable[[], Seconds]:
    """One step of `fit` as in the tutorials: batch 1, padded to `row`, AdamW without decay on bias
    and scale; the last `targets` of the ids [1, T] carry loss."""
    model = keras_model(config, params)
    import keras

    model.backbone.enable_lora(RANK)
    optimizer = keras.optimizers.AdamW(learning_rate=LEARNING_RATE, weight_decay=DECAY)
    optimizer.exclude_from_weight_decay(var_names=["bias", "scale"])
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), optimizer=optimizer,
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )  # fmt: skip
    text = ids.shape[1]
    inputs = keras_inputs(ids.tolist(), row + 1)
    weights = np.zeros((1, row), np.float32)
    weights[:, text - 1 - targets : text - 1] = 1
    given = {name: array[:, :-1] for name, array in inputs.items()}

    def step() -> Seconds:
        began = time.perf_counter()
        model.fit(
            given, inputs["token_ids"][:, 1:], sample_weight=weights, batch_size=1, shuffle=False,
            verbose=0,
        )  # fmt: skip
        return {"step": time.perf_counter() - began}

    return step


def peft_model(config: GemmaConfig, params: Params, dtype: str) -> Any:
    """A transformers model with LoRA on query and value; passed on as a folder on disk."""
    import peft
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / "model", config, params, None)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            Path(folder) / "model", dtype=getattr(torch, dtype)
        )
    lora = peft.LoraConfig(
        r=RANK, lora_alpha=RANK, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )
    return peft.get_peft_model(model, lora)


def peft_step(model: Any, ids: np.ndarray, targets: int) -> Callable[[], Seconds]:
    """One step on ids [B, T] without padding, of which the last `targets` carry loss."""
    import torch

    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=DECAY)
    tokens = torch.from_numpy(ids.astype(np.int64))
    labels = tokens.clone()
    labels[:, : ids.shape[1] - targets] = -100

    def step() -> Seconds:
        began = time.perf_counter()
        optimizer.zero_grad()
        model(input_ids=tokens, labels=labels).loss.backward()
        optimizer.step()
        return {"step": time.perf_counter() - began}

    return step

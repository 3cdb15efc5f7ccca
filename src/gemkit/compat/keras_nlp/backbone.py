"""KerasNLP's backbone: the weights of a Gemma, and the adapter that tunes them."""

import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.adapt.lora import Adapter, Lora, attach, count_adapter, init_adapter, merge, plain
from gemkit.checkpoint.files import FLOAT_DTYPES
from gemkit.checkpoint.hub.handles import locate
from gemkit.checkpoint.keras import lora as keras_lora
from gemkit.checkpoint.keras.config import family, read_config
from gemkit.checkpoint.load import load_checkpoint, read_shape
from gemkit.checkpoint.save import save_checkpoint
from gemkit.compat.keras import config as keras_config
from gemkit.compat.keras_nlp.summary import Counts, backbone_rows, model_table
from gemkit.compat.missing import Shim
from gemkit.errors import ConfigError, UsageError
from gemkit.model import transformer
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params, count_parameters, flatten, init_params, unflatten
from gemkit.text.tokenizer import Tokenizer

_KINDS = {name: kind for kind, name in keras_lora.LAYER_NAMES.items()} | {
    "query_dense": "q", "key_dense": "k", "value_dense": "v", "output_dense": "o",
}  # fmt: skip

# Keras' names of sizes → gemkit's.
_SIZES = {
    "vocabulary_size": "vocab_size", "num_layers": "num_layers", "num_query_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads", "hidden_dim": "hidden_size", "head_dim": "head_dim",
}  # fmt: skip


class GemmaBackbone(Shim):
    """Weights, and matrices of LoRA once `enable_lora` was called.

    `GemmaBackbone(vocabulary_size=…, num_layers=…, …)` takes what KerasHub's takes and draws
    random weights.

    Attributes:
      model_config: gemkit's configuration.
      base: the weights, without the adapter.
      lora, adapter: the adapter in Keras' form, None without one.
    """

    own_way = "gemkit's own lm.language_model, or backbone.params, the weights"
    ways = {
        "quantize": 'gemkit.load(name, quantize="int8")',
        "save_weights": "save_lora_weights for an adapter, save_to_preset for all",
        "load_weights": "load_lora_weights for an adapter, from_preset for all",
    }

    def __init__(self, dtype: str | None = None, **settings: Any) -> None:
        config = read_config(
            {"class_name": type(self).__name__, "config": settings}, type(self).__name__
        )
        seed = random.getrandbits(32)
        self._hold(config, init_params(config, seed, jnp.dtype(dtype or _floatx())))

    @classmethod
    def of(cls, config: GemmaConfig, base: Params) -> "GemmaBackbone":
        """One of a configuration and weights."""
        made = object.__new__(Gemma3Backbone if family(config) == "gemma3" else GemmaBackbone)
        made._hold(config, base)
        return made

    @classmethod
    def from_preset(
        cls, preset: str | Path, load_weights: bool = True, dtype: str | None = None
    ) -> "GemmaBackbone":
        """Loads a preset's name or a folder in any format.

        Args:
          load_weights: False draws random ones.
          dtype: of the weights; None for the one `keras.config.set_floatx` set, float32.

        Raises:
          ModelNotFoundError: it is not on disk.
          CheckpointError: damaged, or not a Gemma.
        """
        return load_preset(preset, load_weights, dtype)[0]

    def _hold(self, config: GemmaConfig, base: Params) -> None:
        self.model_config, self.base = config, base
        self.lora: Lora | None = None
        self.adapter: Adapter | None = None
        self.name = f"{family(config)}_backbone"

    @property
    def params(self) -> Params:
        """The weights with the adapter attached."""
        if self.lora is None or self.adapter is None:
            return self.base
        return attach(self.base, self.adapter, self.lora)

    @property
    def trained(self) -> Any:
        """What `fit` changes: the adapter, or all weights without one."""
        return self.base if self.lora is None else self.adapter

    @trained.setter
    def trained(self, tree: Any) -> None:
        if self.lora is None:
            self.base = tree
        else:
            self.adapter = tree

    def __call__(self, inputs: Any) -> jax.Array:
        """Final hidden states [B, T, D] of {"token_ids", "padding_mask"}, padding on the right."""
        tokens = jnp.asarray(inputs["token_ids"], jnp.int32)
        segments = jnp.asarray(inputs["padding_mask"], jnp.int32)
        places = transformer.positions_of(segments)
        return transformer.hidden(self.params, self.model_config, tokens, places, segments)

    def enable_lora(self, rank: int, target_layer_names: Sequence[str] | None = None) -> None:
        """Freezes the weights and adds matrices of LoRA to queries and values.

        An adapter that is already there becomes part of the frozen weights.

        Args:
          rank: R.
          target_layer_names: other layers, by Keras' names: query, key, value, attention_output,
            ffw_gating, ffw_gating_2, ffw_linear.

        Raises:
          UsageError: a rank below 1, or a name of no layer.
        """
        names = ("query", "value") if target_layer_names is None else target_layer_names
        unknown = [name for name in names if name not in _KINDS]
        if unknown or not names:
            raise UsageError(
                f"target_layer_names has {', '.join(unknown) or 'no name'}",
                f"some of {', '.join(keras_lora.LAYER_NAMES.values())}",
            )  # fmt: skip
        kinds = dict.fromkeys(_KINDS[name] for name in names)
        lora = Lora(rank=rank, targets=tuple(kinds), form="keras")
        adapter = init_adapter(self.model_config, lora, random.getrandbits(32))
        self.base = merge(self.params)
        self.lora, self.adapter = lora, adapter

    def save_lora_weights(self, filepath: str | Path) -> None:
        """Writes the adapter as a `.lora.h5` file that KerasHub reads too.

        Raises:
          UsageError: there is no adapter, or another ending of the name.
        """
        if self.lora is None or self.adapter is None:
            raise UsageError("there is no adapter to save", "enable_lora(rank) before")
        path = _lora_path(filepath)
        usual = plain(self.lora, self.adapter)
        keras_lora.write_adapter(path, self.model_config, *usual, rank=self.lora.rank)

    def load_lora_weights(self, filepath: str | Path) -> None:
        """Reads a `.lora.h5` file of KerasHub or gemkit; enables LoRA at its rank if it is not.

        Raises:
          UsageError: an adapter of another rank is enabled.
          CheckpointError: damaged, or an adapter of another model.
        """
        lora, adapter = keras_lora.read_adapter(_lora_path(filepath), self.model_config)
        if self.lora is not None and self.lora.rank != lora.rank:
            raise UsageError(
                f"{filepath} has rank {lora.rank} and the model has {self.lora.rank}",
                "the same rank", f"call enable_lora({lora.rank})",
            )  # fmt: skip
        self.lora = Lora(rank=lora.rank, targets=lora.targets, form="keras")
        self.adapter = {path: _shared(pair, lora.rank) for path, pair in adapter.items()}

    def __getattr__(self, name: str) -> Any:
        if name in _SIZES:
            return getattr(self.model_config, _SIZES[name])
        return super().__getattr__(name)

    @property
    def intermediate_dim(self) -> int:
        """Width of the gate and the layer beside it, together as Keras counts it."""
        return 2 * self.model_config.intermediate_size

    @property
    def trainable(self) -> bool:
        """Whether `fit` changes the weights: True; with LoRA it changes the adapter alone."""
        return True

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if not value:
            raise UsageError("trainable is False", "True", "enable_lora(rank) freezes the weights")

    def summary(
        self, line_length: int | None = None, print_fn: Callable[[str], Any] | None = None,
        **_: Any,
    ) -> None:  # fmt: skip
        """Prints Keras' table of the layers, and the totals."""
        rows = backbone_rows(self.model_config, self.lora, family(self.model_config).capitalize())
        (print_fn or print)(model_table(self.name, rows, self.counts, line_length))

    def count_params(self) -> int:
        """All parameters, the adapter's as Keras counts them."""
        return self.counts.base + self.counts.adapter

    @property
    def counts(self) -> Counts:
        """Figures for a summary."""
        base = count_parameters(self.model_config)
        adapter = count_adapter(self.model_config, self.lora) if self.lora is not None else 0
        size = base * jnp.dtype(self.base["embed"].dtype).itemsize
        return Counts(base, size, adapter, adapted=self.lora is not None)

    def get_weights(self) -> list[np.ndarray]:
        """What is trained, as arrays."""
        return [np.asarray(leaf) for _, leaf in _leaves(self.trained)]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """What `get_weights` gave, back."""
        paths = [path for path, _ in _leaves(self.trained)]
        leaves = dict(zip(paths, map(jnp.asarray, weights), strict=True))
        if self.lora is None:
            self.base = unflatten(leaves)
            return
        self.adapter = {
            path: {name: leaves[f"{path}/{name}"] for name in pair}
            for path, pair in (self.adapter or {}).items()
        }

    def save_to_preset(self, preset_dir: str | Path, tokenizer: Tokenizer | None = None) -> None:
        """Writes the weights, adapter merged, as a preset that `from_preset` reads.

        A model that no backbone of KerasHub computes, such as nano, is written in Hugging Face's
        format, which `from_preset` reads as well.

        Raises:
          CheckpointError: the folder is taken or the disk full.
        """
        weights, path = merge(self.params), Path(preset_dir)
        try:
            save_checkpoint(path, self.model_config, weights, tokenizer, "keras")
        except ConfigError:
            save_checkpoint(path, self.model_config, weights, tokenizer, "hf")


class Gemma3Backbone(GemmaBackbone):
    """The same for Gemma 3."""


Backbone = GemmaBackbone


def load_preset(
    preset: str | Path, load_weights: bool = True, dtype: str | None = None
) -> tuple[GemmaBackbone, Tokenizer | None, Path]:
    """Weights, vocabulary and folder of a preset's name or a folder."""
    wanted = dtype or _floatx()
    if wanted not in FLOAT_DTYPES:
        raise UsageError(
            f"dtype is {dtype}", ", ".join(FLOAT_DTYPES), "quantised weights have no counterpart"
        )
    path = locate(preset)
    if not load_weights:
        config, _ = read_shape(path)
        base = init_params(config, random.getrandbits(32), jnp.dtype(wanted))
        return GemmaBackbone.of(config, base), Tokenizer.from_file(path), path
    loaded = load_checkpoint(path, wanted)
    return GemmaBackbone.of(loaded.config, loaded.params), loaded.tokenizer, path


def _floatx() -> str:
    """The dtype models are loaded in: Keras' if Keras is in use, else the stand-in's."""
    keras, chosen = sys.modules.get("keras"), keras_config.floatx()
    return chosen if keras is None or chosen != "float32" else str(keras.config.floatx())


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    if "embed" in tree:
        return list(flatten(tree))
    return [(f"{path}/{name}", leaf) for path, pair in tree.items() for name, leaf in pair.items()]


def _shared(pair: dict[str, jax.Array], rank: int) -> dict[str, jax.Array]:
    """An adapter of rank N*R with one block for each head, as one whose heads share a B."""
    a, b = pair["a"], pair["b"]
    heads = len(a) // rank
    if heads == 1:
        return pair
    return {"a": a.reshape(heads, rank, -1), "b": b[:rank, : b.shape[1] // heads]}


def _lora_path(filepath: str | Path) -> Path:
    if not str(filepath).endswith(".lora.h5"):
        raise UsageError(f"the file is {filepath}", "a name that ends in .lora.h5")
    return Path(filepath)

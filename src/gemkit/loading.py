"""From a MODEL, a name or a path, to the user's object."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from gemkit.checkpoint.adapters import read_adapter
from gemkit.checkpoint.files import FLOAT_DTYPES
from gemkit.checkpoint.hub import EMBEDDED, locate
from gemkit.checkpoint.load import load_checkpoint
from gemkit.errors import CheckpointError, UsageError
from gemkit.language_model import LanguageModel
from gemkit.model.config import GemmaConfig
from gemkit.model.variants import VARIANTS
from gemkit.model.weights import init_params


def load(
    model: str | Path, dtype: str | None = None, quantize: str | None = None,
    adapter: str | Path | None = None,
) -> LanguageModel:  # fmt: skip
    """Loads a MODEL: a preset's name, a folder in a known format, or a run of `gemkit tune`.

    Args:
      model: what to load; nothing is downloaded.
      dtype: of the weights; None keeps the stored one.
      quantize: not available in this version.
      adapter: to apply: a PEFT folder, a Keras `.lora.h5`, a Flax folder or a GGUF file.

    Raises:
      ModelNotFoundError: it is not on disk.
      CheckpointError: damaged, or not a Gemma.
    """
    if quantize is not None:
        raise UsageError(
            f"quantize is {quantize!r}", "None: quantised weights are not available yet"
        )  # fmt: skip
    path = locate(model)
    if (path / "run.json").is_file():
        if adapter is not None:
            raise UsageError(f"{path} is a run with an adapter of its own", "one adapter")
        return _load_run(path, dtype)
    loaded = load_checkpoint(path, dtype)
    found = LanguageModel(str(model), loaded.config, loaded.params, loaded.tokenizer)
    return found if adapter is None else _adapted(found, Path(adapter), str(model))


def _load_run(path: Path, dtype: str | None) -> LanguageModel:
    run = read_run(path)
    if (path / "model").is_dir():
        return load(path / "model", dtype)
    base = run["model"]["name"]
    if base not in EMBEDDED and base not in VARIANTS and not Path(base).exists():
        base = run["model"].get("path", base)
    # In another dtype the base has another hash, so it is loaded as it was when tuned.
    lm = _adapted(load(base, run["settings"].get("dtype")), path / "adapter", str(path))
    return lm if dtype is None else _cast(lm, dtype)


def _cast(lm: LanguageModel, dtype: str) -> LanguageModel:
    if dtype not in FLOAT_DTYPES:
        raise UsageError(f"dtype is {dtype}", ", ".join(FLOAT_DTYPES))
    base = jax.tree.map(lambda leaf: leaf.astype(dtype), lm.base)
    return LanguageModel(lm.name, lm.config, base, lm.optional_tokenizer, lm.lora, lm.adapter)


def read_run(path: Path) -> dict[str, Any]:
    """run.json of a run directory.

    Raises:
      CheckpointError: damaged.
    """
    try:
        run = json.loads((path / "run.json").read_text("utf-8"))
        if not isinstance(run["model"]["name"], str) or not isinstance(run["settings"], dict):
            raise TypeError("model or settings are of another kind")
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{path / 'run.json'} is damaged: {error!r}"
        raise CheckpointError(what, "a run of gemkit tune") from None
    return run


def _adapted(base: LanguageModel, path: Path, name: str) -> LanguageModel:
    lora, adapter = read_adapter(path, base.config, base.base_hash)
    return LanguageModel(name, base.config, base.base, base.optional_tokenizer, lora, adapter)


def init(model: str | GemmaConfig, seed: int = 0, dtype: str = "float32") -> LanguageModel:
    """Random weights, for tests and benchmarks: a variant's name or a configuration.

    A name brings no vocabulary, except "nano".
    """
    if isinstance(model, GemmaConfig):
        return LanguageModel("random", model, init_params(model, seed, jnp.dtype(dtype)), None)
    if model in EMBEDDED:
        same = load(model)
        params = init_params(same.config, seed, jnp.dtype(dtype))
        return LanguageModel(f"random {model}", same.config, params, same.tokenizer)
    if model not in VARIANTS:
        raise UsageError(f"no variant {model!r}", "a name that gemkit models lists")
    params = init_params(VARIANTS[model].config, seed, jnp.dtype(dtype))
    return LanguageModel(f"random {model}", VARIANTS[model].config, params, None)

"""From a MODEL, a name or a path, to the user's object."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from gemkit.adapt.quantize import check_method
from gemkit.answering.answerer import check_cache
from gemkit.checkpoint.adapters import read_adapter
from gemkit.checkpoint.files import FLOAT_DTYPES
from gemkit.checkpoint.hub.handles import EMBEDDED, locate
from gemkit.checkpoint.load import load_checkpoint
from gemkit.errors import CheckpointError, UsageError
from gemkit.generate.prefix import BUDGET
from gemkit.language_model import LanguageModel
from gemkit.model.config import GemmaConfig
from gemkit.model.linear import QuantizedWeight
from gemkit.model.variants import VARIANTS
from gemkit.model.weights import flatten, init_params, unflatten


def load(
    model: str | Path, dtype: str | None = None, quantize: str | None = None,
    adapter: str | Path | None = None, cache_dtype: str | None = None, prefix_bytes: int = BUDGET,
) -> LanguageModel:  # fmt: skip
    """Loads a MODEL: a preset's name, a folder in a known format, or a run of `gemkit tune`.

    Args:
      model: what to load; nothing is downloaded.
      dtype: of the weights; None keeps the stored one.
      quantize: "int8" or "int4" keeps the matrices in that many bits, see `adapt.quantize`; None
        as stored, or for a run as it was tuned. One matrix at a time is whole while it loads.
      adapter: to apply: a PEFT folder, a Keras `.lora.h5`, a Flax folder or a GGUF file.
      cache_dtype: of keys and values while answering; None for that of the weights. "int8" is a
        quarter of float32, its answers may differ.
      prefix_bytes: memory for prompt starts that later calls may share; 0 keeps none.

    Raises:
      ModelNotFoundError: it is not on disk.
      CheckpointError: damaged, or not a Gemma.
    """
    if quantize is not None:
        check_method(quantize)
    check_cache(cache_dtype, prefix_bytes)
    found = _load(model, dtype, quantize, adapter)
    found.cache_dtype, found.prefix_bytes = cache_dtype, prefix_bytes
    return found


def _load(
    model: str | Path, dtype: str | None, quantize: str | None, adapter: str | Path | None
) -> LanguageModel:
    path = locate(model)
    if (path / "run.json").is_file():
        if adapter is not None:
            raise UsageError(f"{path} is a run with an adapter of its own", "one adapter")
        return _load_run(path, dtype, quantize)
    loaded = load_checkpoint(path, dtype, quantize)
    found = LanguageModel(str(model), loaded.config, loaded.params, loaded.tokenizer)
    return found if adapter is None else _adapted(found, Path(adapter), str(model))


def _load_run(path: Path, dtype: str | None, quantize: str | None) -> LanguageModel:
    run = read_run(path)
    if (path / "model").is_dir():
        return load(path / "model", dtype, quantize)
    tuned = run["settings"].get("quantize")
    if quantize not in (None, tuned):
        raise UsageError(
            f"quantize is {quantize!r} and {path} was tuned over {tuned or 'whole weights'}",
            "the weights it was tuned on", "leave quantize out, or merge the run first",
        )  # fmt: skip
    base = run["model"]["name"]
    if base not in EMBEDDED and base not in VARIANTS and not Path(base).exists():
        base = run["model"].get("path", base)
    # In another dtype the base has another hash, so it is loaded as it was when tuned.
    lm = _adapted(load(base, run["settings"].get("dtype"), tuned), path / "adapter", str(path))
    return lm if dtype is None else _cast(lm, dtype)


def _cast(lm: LanguageModel, dtype: str) -> LanguageModel:
    if dtype not in FLOAT_DTYPES:
        raise UsageError(f"dtype is {dtype}", ", ".join(FLOAT_DTYPES))
    base = unflatten({path: _leaf_as(leaf, dtype) for path, leaf in flatten(lm.base)})
    return LanguageModel(lm.name, lm.config, base, lm.optional_tokenizer, lm.lora, lm.adapter)


def _leaf_as(leaf: Any, dtype: str) -> Any:
    if isinstance(leaf, QuantizedWeight):
        return dataclasses.replace(leaf, dtype=jnp.dtype(dtype))
    return leaf.astype(dtype)


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

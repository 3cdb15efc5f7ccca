"""From a MODEL as users write it to a folder on disk. Nothing is downloaded here.

A MODEL is the embedded `nano`, a preset's name, or a path. Presets are looked for where kagglehub
and huggingface_hub keep what they fetched.
"""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

from gemkit.errors import ModelNotFoundError
from gemkit.model.variants import LICENCE, VARIANTS, Variant

EMBEDDED = {"nano": Path(__file__).resolve().parent.parent / "presets" / "nano"}


def locate(model: str | Path) -> Path:
    """The folder or file of a MODEL.

    Raises:
      ModelNotFoundError: it is not on disk; the message says how to get it.
    """
    name = str(model)
    if name in EMBEDDED:
        return EMBEDDED[name]
    if "://" in name:
        raise ModelNotFoundError(
            f"{name} is a hub handle, which this version cannot fetch",
            "a preset's name or a folder on disk",
            "download it with kagglehub or huggingface_hub and pass its folder",
        )
    if name in VARIANTS:
        found = on_disk(VARIANTS[name])
        if found is None:
            raise _not_fetched(VARIANTS[name])
        return found
    path = Path(model).expanduser()
    if not name or not path.exists():
        near = difflib.get_close_matches(name, [*EMBEDDED, *VARIANTS], 3, 0.5)
        raise ModelNotFoundError(
            f"no model {name!r}",
            "a preset's name (gemkit models lists them) or a folder with a model",
            f"did you mean {' or '.join(near)}?" if near else "",
        )
    return path


def on_disk(variant: Variant) -> Path | None:
    """Where a hub client has put this variant, None if nowhere."""
    return next((path for path in _candidates(variant) if (path / "config.json").is_file()), None)


def _candidates(variant: Variant) -> Iterator[Path]:
    cache = Path.home() / ".cache"
    kaggle = Path(os.environ.get("KAGGLEHUB_CACHE", cache / "kagglehub"))
    yield kaggle / "models" / variant.kaggle
    home = Path(os.environ.get("HF_HOME", cache / "huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    repository = hub / f"models--{variant.hugging_face.replace('/', '--')}"
    yield from sorted(repository.glob("snapshots/*"))


def _not_fetched(variant: Variant) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"{variant.name} is not on this disk",
        "it in the cache of kagglehub or huggingface_hub",
        f"accept the licence ({LICENCE}), then, with a Hugging Face token, run "
        f"'hf download {variant.hugging_face}' or, with Kaggle credentials, fetch "
        f"'{variant.kaggle}' with kagglehub",
    )

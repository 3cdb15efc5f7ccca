"""gemkit: run, tune, evaluate and serve Google's Gemma family on JAX.

Everything here is imported on first use, so that `import gemkit` stays quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gemkit import tasks as tasks
    from gemkit.adapt.lora import Lora as Lora
    from gemkit.diagnosis.doctor import doctor as doctor
    from gemkit.errors import GemkitError as GemkitError
    from gemkit.language_model import LanguageModel as LanguageModel
    from gemkit.loading import init as init
    from gemkit.loading import load as load
    from gemkit.model.config import GemmaConfig as GemmaConfig
    from gemkit.tuning import tune as tune

__version__ = "0.1.0"

# Public name → the module that defines it; None: the name is itself a module.
_HOMES: dict[str, str | None] = {
    "GemkitError": "gemkit.errors",
    "GemmaConfig": "gemkit.model.config",
    "LanguageModel": "gemkit.language_model",
    "Lora": "gemkit.adapt.lora",
    "doctor": "gemkit.diagnosis.doctor",
    "init": "gemkit.loading",
    "load": "gemkit.loading",
    "tasks": None,
    "tune": "gemkit.tuning",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gemkit' has no attribute {name!r}")
    home = _HOMES[name]
    if home is None:
        return importlib.import_module(f"gemkit.{name}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""What the shims' objects have in common."""

import sys
from typing import Any

from gemkit.compat.keras import config
from gemkit.errors import UsageError


class MissingError(UsageError, AttributeError):
    """A method or attribute without a counterpart; `hasattr` sees it as absent."""


class Shim:
    """Says of any other public name which way gemkit has instead."""

    own_way = ""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise MissingError(
            f"{type(self).__name__} has no {name} here", "what gemkit.compat has", self.own_way
        )


def floatx() -> str:
    """The dtype models are loaded in: Keras' if Keras is in use, else the stand-in's."""
    keras = sys.modules.get("keras")
    chosen = config.floatx()
    if keras is None or chosen != "float32":
        return chosen
    return str(keras.config.floatx())

"""The metric of a language model, by Keras' name."""

from typing import Any

from gemkit.compat.keras.described import Described
from gemkit.compat.missing import names_missing


class SparseCategoricalAccuracy(Described):
    """Share of tokens whose logit is the largest."""

    usual_name = "sparse_categorical_accuracy"

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name, dtype=dtype)


__getattr__ = names_missing(__name__, "SparseCategoricalAccuracy; gemkit evaluate has others")

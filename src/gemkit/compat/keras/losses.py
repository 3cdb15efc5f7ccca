"""The loss of a language model, by Keras' name."""

from gemkit.compat.keras.described import Described
from gemkit.compat.missing import names_missing


class SparseCategoricalCrossentropy(Described):
    """Cross-entropy of token ids under logits."""

    usual_name = "sparse_categorical_crossentropy"

    def __init__(
        self, from_logits: bool = False, ignore_class: int | None = None,
        reduction: str = "sum_over_batch_size", name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            name, from_logits=from_logits, ignore_class=ignore_class, reduction=reduction
        )


__getattr__ = names_missing(__name__, "SparseCategoricalCrossentropy(from_logits=True)")

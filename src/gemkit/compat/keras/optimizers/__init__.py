"""Settings of optimizers, by Keras' names and with its defaults."""

from collections.abc import Iterable
from typing import Any

from gemkit.compat.keras.described import Described
from gemkit.compat.keras.optimizers import schedules as schedules
from gemkit.compat.missing import names_missing
from gemkit.errors import UsageError

# What Keras' constructors take besides the arguments below.
_COMMON: dict[str, Any] = {
    "clipnorm": None, "clipvalue": None, "global_clipnorm": None, "use_ema": False,
    "ema_momentum": 0.99, "ema_overwrite_frequency": None, "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}  # fmt: skip


class Optimizer(Described):
    """A rule's settings; `learning_rate` is a number or a schedule."""

    def __init__(
        self, learning_rate: Any, weight_decay: float | None, name: str | None,
        common: dict[str, Any], **own: Any,
    ) -> None:  # fmt: skip
        unknown = sorted(common.keys() - _COMMON.keys())
        if unknown:
            raise UsageError(
                f"{type(self).__name__} has no {unknown[0]}", f"one of {', '.join(_COMMON)}"
            )
        super().__init__(name, weight_decay=weight_decay, **_COMMON | common, **own)
        self.learning_rate = learning_rate
        self.excluded: tuple[str, ...] = ()

    def exclude_from_weight_decay(
        self, var_list: Iterable[Any] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Weights whose names hold one of `var_names` (regular expressions) are not decayed."""
        if var_list:
            raise UsageError(
                "exclude_from_weight_decay got variables", "var_names, parts of their names",
                'such as var_names=["bias", "scale"]',
            )  # fmt: skip
        self.excluded = tuple(var_names or ())

    def get_config(self) -> dict[str, Any]:
        """The settings; a schedule as the object it is."""
        return super().get_config() | {"learning_rate": self.learning_rate}


class Adam(Optimizer):
    """Adam (Kingma and Ba 2014)."""

    usual_name = "adam"

    def __init__(
        self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999,
        epsilon: float = 1e-7, amsgrad: bool = False, weight_decay: float | None = None,
        name: str | None = None, **common: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            learning_rate, weight_decay, name, common, beta_1=beta_1, beta_2=beta_2,
            epsilon=epsilon, amsgrad=amsgrad,
        )  # fmt: skip


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    usual_name = "adam_w"

    def __init__(
        self, learning_rate: Any = 0.001, weight_decay: float = 0.004, beta_1: float = 0.9,
        beta_2: float = 0.999, epsilon: float = 1e-7, amsgrad: bool = False,
        name: str | None = None, **common: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, name, **common
        )


class SGD(Optimizer):
    """Gradient descent, with momentum if asked for."""

    usual_name = "sgd"

    def __init__(
        self, learning_rate: Any = 0.01, momentum: float = 0.0, nesterov: bool = False,
        weight_decay: float | None = None, name: str | None = None, **common: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            learning_rate, weight_decay, name, common, momentum=momentum, nesterov=nesterov
        )


__getattr__ = names_missing(
    __name__,
    "Adam, AdamW or SGD; gemkit.tune takes any optax transformation",
)

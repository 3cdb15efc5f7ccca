"""Learning rates over the steps of a run, by Keras' names; calling one gives a step's rate."""

import math
from collections.abc import Sequence
from typing import Any

from gemkit.compat.keras.described import Described
from gemkit.compat.missing import names_missing
from gemkit.errors import UsageError


class LearningRateSchedule(Described):
    """Base of all; a subclass has `__call__(step) → rate`."""

    def __call__(self, step: Any) -> float:
        """The rate of a step, from 0."""
        raise UsageError(f"{type(self).__name__} has no __call__", "a schedule that has one")


class CosineDecay(LearningRateSchedule):
    """Linear warm-up to `warmup_target` if there is one, then a half cosine down to alpha."""

    usual_name = "CosineDecay"

    def __init__(
        self, initial_learning_rate: float, decay_steps: int, alpha: float = 0.0,
        name: str | None = None, warmup_target: float | None = None, warmup_steps: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(
            name, initial_learning_rate=initial_learning_rate, decay_steps=decay_steps,
            alpha=alpha, warmup_target=warmup_target, warmup_steps=warmup_steps,
        )  # fmt: skip

    def __call__(self, step: Any) -> float:
        """The rate of a step."""
        start, peak, place = self.initial_learning_rate, self.warmup_target, float(step)
        if peak is not None and place < self.warmup_steps:
            return float(start + (peak - start) * place / self.warmup_steps)
        peak = start if peak is None else peak
        place -= 0 if self.warmup_target is None else self.warmup_steps
        part = 0.5 * (1 + math.cos(math.pi * min(place / self.decay_steps, 1.0)))
        return float(peak * ((1 - self.alpha) * part + self.alpha))


class _ByDecayRate(LearningRateSchedule):
    """What the two schedules with a decay rate share."""

    def __init__(
        self, initial_learning_rate: float, decay_steps: int, decay_rate: float,
        staircase: bool = False, name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            name, initial_learning_rate=initial_learning_rate, decay_steps=decay_steps,
            decay_rate=decay_rate, staircase=staircase,
        )  # fmt: skip

    def _periods(self, step: Any) -> float:
        """Decay periods until a step: whole ones on a staircase."""
        part = float(step) / self.decay_steps
        return math.floor(part) if self.staircase else part


class ExponentialDecay(_ByDecayRate):
    """initial * decay_rate ** (step / decay_steps)."""

    usual_name = "ExponentialDecay"

    def __call__(self, step: Any) -> float:
        """The rate of a step."""
        return float(self.initial_learning_rate * self.decay_rate ** self._periods(step))


class InverseTimeDecay(_ByDecayRate):
    """initial / (1 + decay_rate * step / decay_steps)."""

    usual_name = "InverseTimeDecay"

    def __call__(self, step: Any) -> float:
        """The rate of a step."""
        return float(self.initial_learning_rate / (1 + self.decay_rate * self._periods(step)))


class PiecewiseConstantDecay(LearningRateSchedule):
    """`values[i]` up to and including the step `boundaries[i]`, the last value after all."""

    usual_name = "PiecewiseConstant"

    def __init__(
        self, boundaries: Sequence[int], values: Sequence[float], name: str | None = None
    ) -> None:
        super().__init__(name, boundaries=list(boundaries), values=list(values))

    def __call__(self, step: Any) -> float:
        """The rate of a step."""
        passed = sum(step > boundary for boundary in self.boundaries)
        return float(self.values[passed])


class PolynomialDecay(LearningRateSchedule):
    """From the first rate to the last as (1 - step / decay_steps) ** power."""

    usual_name = "PolynomialDecay"

    def __init__(
        self, initial_learning_rate: float, decay_steps: int, end_learning_rate: float = 0.0001,
        power: float = 1.0, cycle: bool = False, name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            name, initial_learning_rate=initial_learning_rate, decay_steps=decay_steps,
            end_learning_rate=end_learning_rate, power=power, cycle=cycle,
        )  # fmt: skip

    def __call__(self, step: Any) -> float:
        """The rate of a step."""
        place, steps = float(step), float(self.decay_steps)
        if self.cycle:
            steps *= max(1.0, math.ceil(place / steps))
        part = (1 - min(place, steps) / steps) ** self.power
        end = self.end_learning_rate
        return float((self.initial_learning_rate - end) * part + end)


__getattr__ = names_missing(__name__, "one of those here; gemkit.tune takes any of optax")

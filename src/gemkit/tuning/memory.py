"""Whether a run will fit into memory, said before it starts."""

import warnings
from collections.abc import Sequence

import jax

from gemkit.adapt.quantize import method_of
from gemkit.errors import MemoryWarning, UsageError
from gemkit.kernels.dot import available
from gemkit.language_model import LanguageModel
from gemkit.summary import human_bytes
from gemkit.train.optimizer import OptimizerSettings
from gemkit.train.packing import Example, choose_shape
from gemkit.train.plan import Plan, Tuning, advice, base_bytes, plan_tuning
from gemkit.tuning.recipe import Recipe


def tuning_of(lm: LanguageModel, recipe: Recipe, examples: Sequence[Example]) -> Tuning:
    """What decides the memory of a run."""
    fit, rule = recipe.fit, recipe.optimizer
    if fit.padding is not None:
        rows, length = fit.padding.rows, fit.padding.length
    else:
        rows, length = choose_shape([len(example.ids) for example in examples], fit.batch_tokens)
    return Tuning(
        config=lm.config, itemsize=lm.base["final_norm"].dtype.itemsize, lora=recipe.lora,
        optimizer=rule.name if isinstance(rule, OptimizerSettings) else "",
        batch_tokens=rows * length, row_length=length,
        remat=fit.remat, ema=fit.ema is not None, quantize=method_of(lm.base),
        platform=jax.default_backend(), kernels=available(),
    )  # fmt: skip


def check_memory(given: Tuning, free: int | None) -> Plan:
    """The plan of a run, with a warning where it may not fit.

    What the model takes is in memory already.

    Raises:
      UsageError: it certainly does not fit.
    """
    plan = plan_tuning(given)
    held = base_bytes(given.config, given.itemsize, given.quantize)
    verdict = "fits" if free is None else plan.verdict(free, held)
    if verdict == "fits" or free is None:
        return plan
    instead = ", ".join(
        f"{name} ({human_bytes(other.total - held)})" for name, other in advice(given)
    )
    need = f"tuning needs about {human_bytes(plan.total - held)} beside what is loaded"
    if verdict == "too large":
        raise UsageError(need, f"at most the {human_bytes(free)} that are free", f"try {instead}")
    warnings.warn(
        f"{need}, and {human_bytes(free)} are free; less: {instead}", MemoryWarning, stacklevel=2
    )
    return plan

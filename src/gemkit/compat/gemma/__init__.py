"""The gemma package of early 2024: `params`, `transformer` and `sampler`, on gemkit's model."""

from gemkit.compat.gemma import params as params
from gemkit.compat.gemma import sampler as sampler
from gemkit.compat.gemma import transformer as transformer
from gemkit.compat.missing import names_missing

__getattr__ = names_missing(
    __name__,
    "params, transformer or sampler, the modules of 2024, or gemkit.load and gemkit.tune",
)

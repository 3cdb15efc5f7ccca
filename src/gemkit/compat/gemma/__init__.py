"""The gemma package of early 2024: `params`, `transformer` and `sampler`, on gemkit's model."""

from gemkit.compat.gemma import params as params
from gemkit.compat.gemma import sampler as sampler
from gemkit.compat.gemma import transformer as transformer

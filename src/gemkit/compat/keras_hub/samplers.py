"""The names of `gemkit.compat.keras_nlp.samplers`."""

from gemkit.compat.keras_nlp.samplers import *  # noqa: F403
from gemkit.compat.keras_nlp.samplers import __getattr__ as __getattr__

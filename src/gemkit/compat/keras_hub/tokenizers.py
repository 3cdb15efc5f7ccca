"""The names of `gemkit.compat.keras_nlp.tokenizers`."""

from gemkit.compat.keras_nlp.tokenizers import *  # noqa: F403
from gemkit.compat.keras_nlp.tokenizers import __getattr__ as __getattr__

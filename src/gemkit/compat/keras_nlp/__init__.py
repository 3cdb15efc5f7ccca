"""KerasNLP's names for Gemma, on gemkit: `models`, `samplers` and `tokenizers`."""

from gemkit import __version__ as __version__
from gemkit.compat.keras_nlp import models as models
from gemkit.compat.keras_nlp import samplers as samplers
from gemkit.compat.keras_nlp import tokenizers as tokenizers
from gemkit.compat.missing import names_missing

__getattr__ = names_missing(
    __name__,
    "models, samplers and tokenizers of Gemma; others need KerasNLP itself",
)

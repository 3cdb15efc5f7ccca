"""KerasHub's names for Gemma: those of `gemkit.compat.keras_nlp`."""

from gemkit import __version__ as __version__
from gemkit.compat.keras_hub import models as models
from gemkit.compat.keras_hub import samplers as samplers
from gemkit.compat.keras_hub import tokenizers as tokenizers
from gemkit.compat.keras_nlp import __getattr__ as __getattr__

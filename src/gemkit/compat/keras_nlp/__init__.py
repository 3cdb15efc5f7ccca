"""KerasNLP's names for Gemma, on gemkit: `models`, `samplers` and `tokenizers`."""

from gemkit.compat.keras_nlp import models as models
from gemkit.compat.keras_nlp import samplers as samplers
from gemkit.compat.keras_nlp import tokenizers as tokenizers

"""The names of `gemkit.compat.keras_nlp.models`."""

from gemkit.compat.keras_nlp.models import *  # noqa: F403
from gemkit.compat.keras_nlp.models import __getattr__ as __getattr__

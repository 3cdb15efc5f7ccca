"""The names of `gemkit.compat.keras_nlp.models`."""

from gemkit.compat.keras_nlp.models import *  # noqa: F403

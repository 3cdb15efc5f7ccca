"""Keras' seed."""

import random

import numpy as np


def set_random_seed(seed: int) -> None:
    """Seeds Python's and NumPy's generators, from which gemkit's shims draw their seeds."""
    random.seed(seed)
    np.random.seed(seed)

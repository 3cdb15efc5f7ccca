"""The parts of Keras that a notebook for KerasNLP names: settings, without a computation.

With Keras installed, its own objects may be given instead.
"""

from gemkit import __version__ as __version__
from gemkit.compat.keras import callbacks as callbacks
from gemkit.compat.keras import config as config
from gemkit.compat.keras import losses as losses
from gemkit.compat.keras import metrics as metrics
from gemkit.compat.keras import mixed_precision as mixed_precision
from gemkit.compat.keras import optimizers as optimizers
from gemkit.compat.keras import utils as utils
from gemkit.compat.missing import names_missing

__getattr__ = names_missing(
    __name__,
    "another import: jax.numpy, optax or Keras itself",
)

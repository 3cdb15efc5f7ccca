"""The older place of `keras.config.set_dtype_policy`."""

from gemkit.compat.keras.config import set_dtype_policy

set_global_policy = set_dtype_policy

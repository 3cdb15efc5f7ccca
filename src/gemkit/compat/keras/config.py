"""The dtype that models are loaded in."""

from gemkit.checkpoint.files import FLOAT_DTYPES
from gemkit.errors import UsageError

_current = {"floatx": "float32"}


def floatx() -> str:
    """The dtype of models loaded from now on."""
    return _current["floatx"]


def set_floatx(value: str) -> None:
    """Sets it: float32, bfloat16 or float16."""
    if value not in FLOAT_DTYPES:
        raise UsageError(f"floatx is {value!r}", ", ".join(FLOAT_DTYPES))
    _current["floatx"] = value


def backend() -> str:
    """gemkit runs on JAX, whatever KERAS_BACKEND says."""
    return "jax"


def set_dtype_policy(policy: str) -> None:
    """The same as `set_floatx`; mixed policies have no counterpart."""
    if policy.startswith("mixed"):
        raise UsageError(
            f"the policy is {policy!r}", "float32 or bfloat16",
            "gemkit computes in the dtype the weights are loaded in",
        )  # fmt: skip
    set_floatx(policy)

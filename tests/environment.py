"""What a program that a test starts finds in its environment."""

import os
from pathlib import Path


def of_a_user() -> dict[str, str]:
    """This one, with all optimisations."""
    return {k: v for k, v in os.environ.items() if k != "JAX_DISABLE_MOST_OPTIMIZATIONS"}


def of_many_programs() -> dict[str, str]:
    """This one; what one program compiles the next need not."""
    return {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(Path(os.environ["XDG_CACHE_HOME"]) / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }

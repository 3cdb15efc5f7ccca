"""When the kernels are made, and that everything runs without them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gemkit.kernels import native

SRC = Path(__file__).parents[2] / "src"
PROGRAM = """
import jax.numpy as jnp
from gemkit.kernels import native
from gemkit.model.linear import linear
print(native.loaded(), float(linear(jnp.ones((2, 4), jnp.bfloat16),
                                     jnp.ones((3, 4), jnp.bfloat16)).sum()))
"""


def run(cache: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(SRC), "XDG_CACHE_HOME": str(cache), **environment},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.strip()


def test_switched_off(tmp_path: Path) -> None:
    assert run(tmp_path, GEMKIT_KERNELS="0") == "False 24.0"
    assert list(tmp_path.iterdir()) == []


def test_without_a_compiler(tmp_path: Path) -> None:
    assert run(tmp_path, PATH="", CXX="") == "False 24.0"


def test_with_a_compiler_that_fails(tmp_path: Path) -> None:
    failing = tmp_path / "c++"
    failing.write_text("#!/bin/sh\nexit 1\n")
    failing.chmod(0o755)
    assert run(tmp_path / "cache", CXX=str(failing)) == "False 24.0"
    assert not list((tmp_path / "cache").rglob("*.so"))


@pytest.mark.skipif(native.reason_against() is not None, reason=str(native.reason_against()))
def test_made_once_and_a_damaged_one_is_left_alone(tmp_path: Path) -> None:
    assert run(tmp_path) == "True 24.0"
    (made,) = tmp_path.rglob("*.so")
    before = made.stat().st_mtime_ns
    assert run(tmp_path) == "True 24.0"
    assert made.stat().st_mtime_ns == before
    made.write_bytes(b"no library")
    assert run(tmp_path) == "False 24.0"

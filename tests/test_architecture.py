"""The house rules that a program can check: rooms, sizes, imports, docstrings, pins."""

import ast
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jax.numpy as jnp
import pytest

import gemkit

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"

# Room → height. A room imports itself and lower ones; rooms of one height know nothing of each
# other.
ROOMS = {
    "errors": 0,
    "machine": 0,
    "atomic": 1,
    "progress": 1,
    "rows": 1,
    "metrics": 2,
    "text": 2,
    "kernels": 3,
    "model": 4,
    "adapt": 5,
    "summary": 6,
    "checkpoint": 7,
    "scale": 8,
    "train": 9,
    "generate": 9,
    "answering": 10,
    "language_model": 11,
    "loading": 12,
    "tasks": 13,
    "diagnosis": 14,
    "evaluate": 14,
    "tuning": 15,
    "serve": 16,
    "compat": 17,
    "cli": 18,
    "__main__": 19,
}
WITHOUT_JAX = ("errors", "machine", "text")
# Faces: `compat` prints what Keras would.
MAY_PRINT = ("cli", "compat", "__main__")
DATA_FOLDERS = ("samples", "presets")
FOREIGN = {"torch", "tensorflow", "keras", "keras_hub", "transformers"}
HEAVY = {
    "jax", "jaxlib", "optax", "h5py", "rich", "sentencepiece", "numpy", "duckdb", "tensorstore",
    "gguf", "huggingface_hub", "kagglehub", "llguidance", "orbax",
}  # fmt: skip
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


@cache
def modules() -> dict[str, ast.Module]:
    """Dotted name → syntax tree of each module of the package."""
    trees = {}
    for path in sorted((SOURCE / "gemkit").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if len(parts) > 2 and parts[1] in DATA_FOLDERS:
            continue
        name = ".".join(parts).removesuffix(".__init__")
        trees[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return trees


def room(module: str) -> str:
    """The room of a module of ours; "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def imports(module: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a module imports, at the top or later.

    `from gemkit.model import config` counts as gemkit.model.config.
    """
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module if node.level == 0 else f"relative to {module}"
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def loaded(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `statement`."""
    code = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_every_module_has_a_room() -> None:
    assert {room(module) for module in modules()} - {""} <= set(ROOMS)


def test_imports_are_absolute() -> None:
    relative = [
        f"{module}:{line}"
        for module in modules()
        for line, name in imports(module)
        if name.startswith("relative")
    ]
    assert relative == []


def test_imports_point_down() -> None:
    upward = []
    for module in modules():
        here = room(module)
        for line, name in imports(module):
            there = room(name)
            if name.split(".")[0] != "gemkit" or here in ("", there) or there == "__version__":
                continue
            if ROOMS.get(there, 99) >= ROOMS[here]:
                upward.append(f"{module}:{line} imports {name}")
    assert upward == []


def test_text_and_errors_know_no_jax() -> None:
    found = [
        f"{module}:{line} imports {name}"
        for module in modules()
        if room(module) in WITHOUT_JAX
        for line, name in imports(module)
        if name.split(".")[0] == "jax"
    ]
    assert found == []


def test_other_frameworks_are_not_imported() -> None:
    found = [
        f"{module}:{line} imports {name}"
        for module in modules()
        for line, name in imports(module)
        if name.split(".")[0] in FOREIGN
    ]
    assert found == []


def test_files_are_short() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for folder in ("src", "tests")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {path: n for path, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_functions_are_short() -> None:
    long = []
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{module}.{node.name}: {lines} lines")
    assert long == []


def test_modules_say_what_they_are_for() -> None:
    silent = [name for name, tree in modules().items() if tree.body and not ast.get_docstring(tree)]
    assert silent == []


def test_only_the_command_line_prints() -> None:
    found = [
        f"{module}:{node.lineno}"
        for module, tree in modules().items()
        if room(module) not in MAY_PRINT
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert found == []


def test_importing_gemkit_imports_little() -> None:
    assert loaded("import gemkit") & HEAVY == set()


def test_the_command_line_answers_help_without_jax() -> None:
    statement = (
        "import contextlib, io, sys\n"
        "from gemkit.cli.main import main\n"
        "sys.argv = ['gemkit', '--help']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main()"
    )
    assert loaded(statement) & {"jax", "jaxlib", "optax", "pyarrow"} == set()


def test_public_names_exist() -> None:
    assert [name for name in gemkit.__all__ if not hasattr(gemkit, name)] == []


def test_constraints_are_plain_pins_that_agree() -> None:
    pins: dict[str, dict[str, str]] = {}
    for name in ("runtime", "dev", "interop"):
        lines = (ROOT / "constraints" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
        pins[name] = dict(line.split("==") for line in lines)
    for name in ("dev", "interop"):
        assert pins["runtime"].items() <= pins[name].items(), name


def test_dtypes_are_promoted_strictly() -> None:
    """Guards conftest: a silent promotion in gemkit must fail its test."""
    with pytest.raises(ValueError, match="promotion"):
        jnp.ones(1, jnp.float32) + jnp.ones(1, jnp.int32)



def test_the_network_is_out_of_reach() -> None:
    """Guards conftest; 192.0.2.1 is reserved for documentation (RFC 5737)."""
    with pytest.raises(RuntimeError, match="tried to"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)

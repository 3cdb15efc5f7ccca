"""The command line, called in this process or as a program of its own."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]


class Done(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


Call = Callable[..., Done]


@pytest.fixture
def call(
    compiled: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Call:
    """call("models", "--json", stdin=None) → exit code, stdout, stderr; warnings are errors."""
    from gemkit.cli.main import main

    # Set as by `python -W error`, so that the command line does not silence warnings here.
    monkeypatch.setattr(sys, "warnoptions", ["error"])
    # What a command sets for JAX is too late in this process and not meant for others.
    for name in ("JAX_COMPILATION_CACHE_DIR", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")

    def run(*arguments: object, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def program(compiled: None, tmp_path: Path) -> Call:
    """program("models", stdin=b"", start="") runs gemkit as a program of its own in `tmp_path`.

    start: Python to run before, such as a limit to set.
    """
    import jax

    # As a user's, with this gemkit; what this process has compiled need not be compiled again.
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT / "src"),
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
    }  # fmt: skip
    code = "import sys; from gemkit.cli.main import main; sys.exit(main(sys.argv[1:]))"

    def run(*arguments: object, stdin: bytes = b"", start: str = "") -> Done:
        done = subprocess.run(
            [sys.executable, "-c", f"{start}\n{code}", *map(str, arguments)],
            input=stdin, capture_output=True, cwd=tmp_path, check=False, env=environment,
        )  # fmt: skip
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def fails() -> Callable[[Done, str], str]:
    """Checks that a command ended with exactly one line on stderr, its exit code and no output."""

    def check(done: Done, said: str, code: int = 1) -> str:
        assert done.err.startswith("gemkit: "), done
        assert done.err.count("\n") == 1 and done.err.endswith("\n"), done.err
        assert said in done.err
        assert (done.code, done.out) == (code, "")
        assert "bug in gemkit" not in done.err and "Traceback" not in done.err
        return done.err

    return check

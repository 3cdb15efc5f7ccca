"""What a command sets for JAX: a cache of programs, bounded, of this machine; and quiet."""

import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from gemkit.cli import runtime

FOLDER = "JAX_COMPILATION_CACHE_DIR"


@pytest.fixture(autouse=True)
def untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty cache, and an environment that is restored."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in (FOLDER, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    level = logging.getLogger("jax").level
    yield
    logging.getLogger("jax").setLevel(level)


def test_programs_are_kept_in_the_users_cache(tmp_path: Path) -> None:
    runtime.prepare_jax(debug=True)
    folder = Path(os.environ[FOLDER])
    assert folder.is_dir() and folder.parent == tmp_path / "cache" / "gemkit" / "xla"


def test_another_processor_has_another_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    here = runtime.cache_folder()
    assert runtime.cache_folder() == here
    monkeypatch.setattr(runtime, "instructions", lambda: frozenset({"avx9000"}))
    assert runtime.cache_folder() != here


def test_the_users_own_setting_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER, "/elsewhere")
    runtime.prepare_jax(debug=True)
    assert os.environ[FOLDER] == "/elsewhere"
    assert not (tmp_path / "cache").exists()


def test_without_a_place_there_is_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    runtime.prepare_jax(debug=True)
    assert FOLDER not in os.environ


def test_the_oldest_programs_go_first(tmp_path: Path) -> None:
    for age in range(6):
        (tmp_path / str(age)).write_bytes(b"x" * 10)
        os.utime(tmp_path / str(age), (1000 - age, 1000))
    runtime.trim(tmp_path, 60)
    assert len(list(tmp_path.iterdir())) == 6
    runtime.trim(tmp_path, 59)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
    runtime.trim(tmp_path / "none", 1)


def test_warnings_are_for_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.warnoptions", [])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        runtime.prepare_jax(debug=True)
        warnings.warn("first", stacklevel=1)
        runtime.prepare_jax()
        warnings.warn("second", stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["first"]
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
    assert logging.getLogger("jax").level == logging.ERROR

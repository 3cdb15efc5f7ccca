"""A vocabulary and table files for the tests of tasks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_vocabulary import small_vocabulary

from gemkit.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def words() -> Tokenizer:
    """320 pieces with the turn tokens."""
    return small_vocabulary()


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    """jsonl({…}, …) → a file with these rows."""

    def write(*rows: dict[str, Any]) -> Path:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write

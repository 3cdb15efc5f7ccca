"""Small pieces, so that short sequences overrun the rings of windowed layers."""

import pytest

from gemkit.model import cache


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 8 tokens: with windows of 5 a ring has 16 slots."""
    monkeypatch.setattr(cache, "PIECE", 8)

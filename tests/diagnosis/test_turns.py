"""What tells whether a model was trained on chat turns."""

from pathlib import Path

import pytest

from gemkit.diagnosis.turns import knows_turns


@pytest.mark.parametrize(
    ("name", "knows"),
    [
        ("nano", True), ("gemma2_2b_en", False), ("gemma2_instruct_2b_en", True),
        ("hf://google/gemma-2b-it", True), ("hf://google/gemma-2b", False), ("models/mine", None),
        ("kaggle://keras/gemma2/keras/gemma2_instruct_2b_en", True), ("models/unit", None),
    ],
)  # fmt: skip
def test_by_name(name: str, knows: bool | None) -> None:
    assert knows_turns(name) is knows


def test_by_files(tmp_path: Path) -> None:
    settings = tmp_path / "tokenizer_config.json"
    for text, knows in (("{}", False), ('{"chat_template": "x"}', True), ("[", None), ("7", None)):
        settings.write_text(text)
        assert knows_turns(str(tmp_path)) is knows, text
    (tmp_path / "chat_template.jinja").write_text("x")
    assert knows_turns(str(tmp_path)) is True

"""The template is where the programs that read our files look for it.

What it renders is compared with our own chat in `make interop`, by the programs themselves.
"""

import json
from pathlib import Path

from gemkit.checkpoint.chat_template import CHAT_TEMPLATE, chat_template
from gemkit.checkpoint.gguf.tokenizer import tokenizer_metadata
from gemkit.checkpoint.hf.weights import write_tokenizer
from gemkit.text.templates import CHAT
from gemkit.text.tokenizer import Tokenizer


def test_the_markers_are_those_of_our_chat() -> None:
    for text in (CHAT.start, CHAT.end, *CHAT.roles, CHAT.system_separator.replace("\n", "\\n")):
        assert f"{text}" in CHAT_TEMPLATE


def test_a_vocabulary_with_turns_has_it(tokenizer: Tokenizer, tmp_path: Path) -> None:
    metadata = tokenizer_metadata(tokenizer, tokenizer.vocab_size)
    assert metadata["tokenizer.chat_template"] == CHAT_TEMPLATE
    write_tokenizer(tmp_path, tokenizer)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["chat_template"] == CHAT_TEMPLATE


def test_a_vocabulary_without_turns_has_none(tokenizer: Tokenizer) -> None:
    renamed = tokenizer.proto.replace(b"<end_of_turn>", b"<END_of_turn>")
    assert chat_template(Tokenizer.from_bytes(renamed, "renamed")) == {}

"""Train nano's vocabulary: a SentencePiece BPE model with Gemma's settings and id layout.

Ids 0..472 are those of CodeGemma (Gemma 1 and 2 with four unused pieces renamed for
fill-in-the-middle), so everything that knows Gemma's special tokens works on nano unchanged;
the learnt pieces follow. The runs of tabs that Gemma keeps near id 256000 are left out.
"""

import io
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

CONTROL_IDS = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3}
FIM_PIECES = {
    67: "<|fim_prefix|>",
    68: "<|fim_middle|>",
    69: "<|fim_suffix|>",
    70: "<|file_separator|>",
}
FIRST_USER_DEFINED = 4
FIRST_BYTE = 217
FIRST_LEARNT = 473

_TABLE_TAGS = ("table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td")
_BLOCK_TAGS = ("h1", "h2", "h3", "h4", "h5", "h6", "blockquote")
_INLINE_TAGS = ("strong", "em", "b", "i", "u", "s", "sub", "sup", "code")


def user_defined_pieces() -> list[str]:
    """The pieces of ids 4..216 in order, spaces written as U+2581.

    >>> user_defined_pieces()[107 - FIRST_USER_DEFINED]
    '<end_of_turn>'
    """
    unused = [FIM_PIECES.get(7 + n, f"<unused{n}>") for n in range(99)]
    tags = [
        f"<{slash}{tag}>"
        for group in (_TABLE_TAGS, _BLOCK_TAGS, _INLINE_TAGS)
        for slash in ("", "/")
        for tag in group
    ]
    return [
        *("<mask>", "<2mass>", "[@BOS@]"),
        *unused,
        *("<start_of_turn>", "<end_of_turn>"),
        *("\n" * n for n in range(1, 32)),
        *("\u2581" * n for n in range(2, 32)),
        *tags,
    ]


def train_vocabulary(
    texts: Iterable[str], path: Path, size: int = 4096, min_character_count: int = 3
) -> None:
    """Learn `size` pieces from `texts` and write the SentencePiece model to `path`.

    The result depends on the texts, in their order, and nothing else. A character seen fewer
    than `min_character_count` times gets no piece of its own and is spelt in UTF-8 bytes.

    Raises:
        RuntimeError: the trainer could not find `size` pieces in so little text.
        ValueError: the trained model does not have the layout above.
    """
    whole = list(texts)
    counts = Counter(character for text in whole for character in text)
    rare = [c for c, n in counts.items() if n < min_character_count and c != "\n"]
    # The trainer keeps newlines and tabs as boundaries; cutting at rare characters as well makes
    # "seen often enough" exact, which its own coverage, a share of all characters, cannot be.
    boundary = re.compile("[" + re.escape("".join(["\n", "\t", "\0", *sorted(rare)])) + "]+")
    fragments = (part for text in whole for part in boundary.split(text) if part)

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=fragments,
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        character_coverage=1.0,
        max_sentence_length=1 << 20,
        num_threads=1,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        escape_whitespaces=True,
        byte_fallback=True,
        split_digits=True,
        split_by_number=True,
        split_by_unicode_script=True,
        allow_whitespace_only_pieces=True,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        unk_piece="<unk>",
        unk_surface="",
        user_defined_symbols=user_defined_pieces(),
        minloglevel=1,
        **CONTROL_IDS,
    )
    check_layout(model.getvalue(), size)
    unfinished = path.with_name(path.name + ".partial")
    unfinished.write_bytes(model.getvalue())
    os.replace(unfinished, path)


def check_layout(proto: bytes, size: int) -> None:
    """Raise ValueError unless the model has `size` pieces with Gemma's first 473 in place."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
    expected = ["<pad>", "<eos>", "<bos>", "<unk>", *user_defined_pieces()]
    expected += [f"<0x{byte:02X}>" for byte in range(256)]
    for token, piece in enumerate(expected):
        if (found := processor.id_to_piece(token)) != piece:
            raise ValueError(f"token {token} is {found!r}, expected {piece!r}")
    if processor.vocab_size() != size:
        raise ValueError(f"{processor.vocab_size()} pieces, expected {size}")

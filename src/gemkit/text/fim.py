"""Fill-in-the-middle prompts in CodeGemma's format.

A prompt is `path\\n<|fim_prefix|>PREFIX<|fim_suffix|>SUFFIX<|fim_middle|>`, other files before it
as `path\\nTEXT<|file_separator|>` (CodeGemma technical report, arXiv 2406.11409, and the model
cards). The order with the suffix first is by analogy: the report names it and never prints it.
"""

import codecs
from collections.abc import Mapping
from typing import Literal

from gemkit.errors import TokenizerError, UsageError
from gemkit.text.tokenizer import Tokenizer

PREFIX, MIDDLE, SUFFIX = "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"
SEPARATOR = "<|file_separator|>"

Order = Literal["psm", "spm"]

# Code before the cursor says more about what comes next than code after it.
PREFIX_SHARE = 0.75


def fim_ids(
    tokenizer: Tokenizer,
    prefix: str,
    suffix: str,
    context: Mapping[str, str] | None = None,
    path: str | None = None,
    order: Order = "psm",
    budget: int | None = None,
) -> list[int]:
    """Ids of a prompt whose answer is the text between `prefix` and `suffix`, `<bos>` first.

    Args:
        context: path to text of other files, the most relevant last.
        path: the current file's; written before it.
        order: "psm" prefix, suffix, middle; "spm" suffix, prefix, middle.
        budget: the most ids to return. Context files go first, the first of them before the
            others and each from its end; then text far from the cursor. Cuts are at line starts
            where lines are not too long.

    Raises:
        TokenizerError: the vocabulary has no fill-in-the-middle tokens.
        UsageError: an unknown order, or a budget the path and markers alone exceed.
    """
    before, middle, after, separator = _fim_tokens(tokenizer)
    if order not in ("psm", "spm"):
        raise UsageError(f"order {order!r}", '"psm" or "spm"')
    encode = tokenizer.encode
    head = encode(f"{path}\n") if path else []
    prefix_ids, suffix_ids = encode(prefix), encode(suffix)
    others = [encode(f"{name}\n{text}") for name, text in (context or {}).items()]
    files = [[*ids, separator] for ids in others]
    if budget is not None:
        room = budget - len(head) - len((tokenizer.bos_id, before, after, middle))
        if room < 0:
            raise UsageError(
                f"a budget of {budget} tokens",
                f"at least {budget - room}, for the path and the markers",
                "raise the limit or shorten the path",
            )
        left = room - len(prefix_ids) - len(suffix_ids)
        files = _last_that_fit(tokenizer, others, separator, left)
        prefix_ids, suffix_ids = _fit(tokenizer, prefix_ids, suffix_ids, room)
    first, second = [before, *prefix_ids], [after, *suffix_ids]
    if order == "spm":
        first, second = second, first
    return [tokenizer.bos_id, *sum(files, []), *head, *first, *second, middle]


def fim_stop_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens that end a middle: the four markers, `<eos>`, and `<end_of_turn>` if there is one.

    Raises:
        TokenizerError: the vocabulary has no fill-in-the-middle tokens.
    """
    end_of_turn = () if tokenizer.end_of_turn_id is None else (tokenizer.end_of_turn_id,)
    return (*_fim_tokens(tokenizer), tokenizer.eos_id, *end_of_turn)


def _fim_tokens(tokenizer: Tokenizer) -> tuple[int, int, int, int]:
    pieces = (PREFIX, MIDDLE, SUFFIX, SEPARATOR)
    if missing := [piece for piece in pieces if piece not in tokenizer]:
        raise TokenizerError(
            f"the vocabulary has no {', '.join(missing)}",
            "a model trained to fill in the middle",
            "use CodeGemma (code_gemma_2b_en, code_gemma_7b_en) or nano",
        )
    before, middle, after, separator = map(tokenizer.token_to_id, pieces)
    return before, middle, after, separator


def _fit(
    tokenizer: Tokenizer, prefix: list[int], suffix: list[int], room: int
) -> tuple[list[int], list[int]]:
    """Cut both sides to `room` tokens together; what one does not need the other may use."""
    for_suffix = min(len(suffix), max(room - int(room * PREFIX_SHARE), room - len(prefix)))
    return (
        _last_lines(tokenizer, prefix, room - for_suffix),
        _first_lines(tokenizer, suffix, for_suffix),
    )


def _last_lines(tokenizer: Tokenizer, ids: list[int], room: int) -> list[int]:
    if len(ids) <= room:
        return ids
    window = ids[len(ids) - room :]
    if tokenizer.token_bytes(ids[len(ids) - room - 1]).endswith(b"\n"):
        return window
    # Half the room at least stays in use; a longer line is cut inside instead.
    for position, token in enumerate(window[: len(window) // 2]):
        if tokenizer.token_bytes(token).endswith(b"\n"):
            return window[position + 1 :]
    while window and _is_continuation(tokenizer.token_bytes(window[0])):
        window = window[1:]
    return window


def _first_lines(tokenizer: Tokenizer, ids: list[int], room: int) -> list[int]:
    if len(ids) <= room:
        return ids
    window = ids[:room]
    for position in range(len(window) - 1, len(window) // 2 - 1, -1):
        if tokenizer.token_bytes(window[position]).endswith(b"\n"):
            return window[: position + 1]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(b"".join(map(tokenizer.token_bytes, window)))
    partial = len(decoder.getstate()[0])  # each a token of one byte
    return window[: len(window) - partial]


def _is_continuation(text: bytes) -> bool:
    return len(text) == 1 and 0x80 <= text[0] < 0xC0


def _last_that_fit(
    tokenizer: Tokenizer, files: list[list[int]], separator: int, room: int
) -> list[list[int]]:
    """The last files whole, of the one before them its first lines."""
    kept: list[list[int]] = []
    for file in reversed(files):
        if len(file) < room:
            kept.insert(0, [*file, separator])
            room -= len(file) + 1
            continue
        part = file[: max(room - 1, 0)]
        while part and not tokenizer.token_bytes(part[-1]).endswith(b"\n"):
            part.pop()
        text = b"".join(map(tokenizer.token_bytes, part))
        if b"\n" in text.rstrip(b"\n"):  # more than the file's name
            kept.insert(0, [*part, separator])
        break
    return kept

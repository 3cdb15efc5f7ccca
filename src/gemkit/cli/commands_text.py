"""Commands that write text: generate, complete, choose."""

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gemkit.cli.options import (
    CACHE_DTYPE,
    CONSTRAINTS,
    DTYPE,
    JSON,
    LIMITS,
    MODEL,
    SAMPLING,
    SEVERAL,
    STOP,
    Command,
    as_json,
    present,
    remark,
)  # fmt: skip
from gemkit.errors import DataError, UsageError
from gemkit.text.source_file import plain, read_source, split_place

if TYPE_CHECKING:
    from gemkit.language_model import Reply

# Control characters that a terminal would act upon; a model may write any.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")


@click.command(cls=Command)
@MODEL
@click.argument("prompts", metavar="PROMPT...", nargs=-1, required=True)
@LIMITS
@SAMPLING
@SEVERAL
@CONSTRAINTS
@STOP
@click.option("--draft", is_flag=True, default=None, help="Guess from the prompt: same, sooner.")
@click.option("--echo", is_flag=True, help="Print the prompt before the answer.")
@click.option(
    "--parse-special", is_flag=True, help="Let <start_of_turn> and the like be control tokens."
)
@DTYPE
@CACHE_DTYPE
@JSON
def generate(
    model: str, prompts: tuple[str, ...], dtype: str | None, cache_dtype: str | None,
    echo: bool, json_schema: str | None, as_program: bool, **settings: Any,
) -> None:  # fmt: skip
    """Continue a text.

    Several prompts are one batch; a PROMPT that is - is read from standard input. With --json
    every answer comes with its tokens and their log-probabilities.
    """
    from gemkit.loading import load

    texts = [standard_input() if text == "-" else text for text in prompts]
    if list(prompts).count("-") > 1:
        raise UsageError("two prompts are -", "one, standard input can be read once")
    schema = None if json_schema is None else _schema(json_schema)
    settings = present(json_schema=schema, **settings)
    lm = load(model, **present(dtype=dtype, cache_dtype=cache_dtype))
    alone = len(texts) == 1 and not {"n", "best_of", "beams"} & settings.keys()
    if alone and not as_program:
        say_if_empty(write_pieces(lm.stream(texts[0], echo=echo, **settings)))
        return
    replies = lm.answers(texts, **settings)
    found = [
        (text, text * echo + reply.text, reply)
        for text, row in zip(texts, replies, strict=True)
        for reply in row
    ]
    if as_program:
        as_json([_record(*each) for each in found])
        return
    for place, (_, answer, reply) in enumerate(found, 1):
        if len(found) > 1:
            print(f"{'' if place == 1 else chr(10)}[{place}]")
        print(visible(answer))
        say_if_empty(reply.text)


def _record(prompt: str, answer: str, reply: "Reply") -> dict[str, Any]:
    tokens = zip(reply.ids, reply.tokens, reply.log_probs, strict=True)
    return {
        "prompt": prompt, "answer": answer, "ended": reply.ended,
        "tokens": [{"id": i, "text": text, "log_prob": p} for i, text, p in tokens],
    }  # fmt: skip


def _schema(given: str) -> str:
    """A JSON schema given as itself or as a file."""
    return given if given.lstrip().startswith("{") else read_source(Path(given)).text


def say_if_empty(answer: str) -> None:
    """A remark where nothing was printed, since that looks like a failure."""
    if not answer:
        remark("the answer is empty: it ended at once, or with a --stop text before any other")


def write_pieces(pieces: Any) -> str:
    """Prints pieces of text as they come, and a line end; gives the whole."""
    whole = ""
    for piece in pieces:
        whole += piece
        print(visible(piece), end="", flush=True)
    print()
    return whole


def visible(text: str) -> str:
    """Text that is safe on a terminal; unchanged elsewhere."""
    return _CONTROL.sub("\ufffd", text) if sys.stdout.isatty() else text


def standard_input() -> str:
    """Standard input without the line end that `echo` and editors put last."""
    try:
        return sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"byte {error.start} of standard input is not UTF-8", "UTF-8") from None


@click.command(cls=Command)
@MODEL
@click.argument("place", metavar="[FILE:LINE[:COL]]", required=False)
@click.option("--prefix", metavar="TEXT", help="Code before the gap, instead of a file.")
@click.option("--suffix", metavar="TEXT", help="Code after the gap.")
@click.option(
    "--context", "files", multiple=True, metavar="FILE", type=click.Path(path_type=Path),
    help="Another file to look at, the most useful one last; repeatable.",
)  # fmt: skip
@click.option("--in-place", is_flag=True, help="Write the middle into the file.")
@click.option(
    "--lines", type=click.Choice(["auto", "one", "many"]),
    help="How much: auto (default) is one where the line is begun, else many.",
)  # fmt: skip
@click.option(
    "--order", type=click.Choice(["psm", "spm"]),
    help="What the model reads first: psm the prefix (default), spm the suffix.",
)  # fmt: skip
@click.option("--max-new-tokens", type=int, metavar="N", help="Most tokens of the middle.")
@SAMPLING
@STOP
@DTYPE
@CACHE_DTYPE
@JSON
def complete(
    model: str, place: str | None, prefix: str | None, suffix: str | None,
    files: tuple[Path, ...], in_place: bool, dtype: str | None, cache_dtype: str | None,
    as_program: bool, **settings: Any,
) -> None:  # fmt: skip
    """Write the code that is missing at a place.

    The place is in a FILE, or between --prefix and --suffix. LINE and COL count from 1; without
    COL it is the end of the line. Prints the middle only.
    """
    if (place is None) == (prefix is None and suffix is None):
        what = "no place" if place is None else "both a file and --prefix or --suffix"
        raise UsageError(what, "FILE:LINE[:COL], or --prefix and --suffix")
    if in_place and place is None:
        raise UsageError("--in-place without a file", "FILE:LINE[:COL]")
    before, after, path = prefix or "", suffix or "", None
    if place is not None:
        file, line, column = split_place(place)
        source = read_source(file)
        offset = source.offset(line, column)
        before, after, path = source.text[:offset], source.text[offset:], _shown(file)
    context = {_shown(other): plain(read_source(other).text) for other in files}
    from gemkit.loading import load

    lm = load(model, **present(dtype=dtype, cache_dtype=cache_dtype))
    middle = lm.complete(
        plain(before), plain(after), context=context or None, path=path, **present(**settings)
    )  # fmt: skip
    if in_place:
        source.insert(offset, middle)
        remark(f"{source.path}: {len(middle)} characters added")
    if as_program:
        as_json({"middle": middle})
    else:
        print(visible(middle), end="\n" if sys.stdout.isatty() else "")


def _shown(path: Path) -> str:
    """A file as models saw files named: by its place in the project, taken to be the folder here.

    >>> _shown(Path("src/a.py")), _shown(Path("/elsewhere/b.py"))
    ('src/a.py', 'b.py')
    """
    inside = os.path.relpath(path)
    return path.name if inside.startswith(os.pardir) else Path(inside).as_posix()


@click.command(cls=Command)
@MODEL
@click.argument("prompt")
@click.option("--choice", "choices", multiple=True, metavar="TEXT", help="Give two or more.")
@click.option(
    "--normalize", type=click.Choice(["sum", "mean"]),
    help="mean: by log-likelihood per token, for choices of different lengths; default sum.",
)  # fmt: skip
@click.option(
    "--calibrate", metavar="PROMPT",
    help="A prompt that speaks for no choice, such as one about N/A; divides by what it gives.",
)  # fmt: skip
@DTYPE
@JSON
def choose(
    model: str, prompt: str, choices: tuple[str, ...], dtype: str | None, as_program: bool,
    **settings: Any,
) -> None:  # fmt: skip
    """Score given continuations of a PROMPT.

    Prints the probability of each --choice, the likeliest first; they sum to 1. A PROMPT that is
    - is read from standard input.
    """
    from gemkit.loading import load

    text = standard_input() if prompt == "-" else prompt
    lm = load(model, **present(dtype=dtype))
    found = lm.choose(text, choices, **present(**settings))
    if as_program:
        as_json({
            "choice": found.choice, "choices": list(choices),
            "probabilities": found.probabilities, "log_probs": found.log_probs,
        })  # fmt: skip
        return
    for probability, choice in sorted(zip(found.probabilities, choices, strict=True), reverse=True):
        print(f"{probability:.4f}  {visible(choice)}")

"""The checks: pure functions from what training would read to a finding, in one table."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from gemkit.diagnosis.material import Case, Finding, Material, Severity, shortened
from gemkit.rows import pack_rows
from gemkit.text.templates import CHAT
from gemkit.train.packing import choose_shape

USUAL_LENGTH = 512
"""What many recipes pad every example to."""
MUCH_PADDING = 0.3
MANY_SHARED = 0.05
"""Share of the validation rows from which their scores say little; below it, chance does it."""
BRACKETED = re.compile(r"<[^<>\[\]]+>|\[[^<>\[\]]+\]")
"""The shape of every control token."""
FEW_OF_LABEL, RARE_LABEL = 5, 10
"""A label is rare with fewer rows, or when another has so many times as many."""


def unusable_rows(material: Material) -> Finding:
    """Rows a run would stop at."""
    bad, total = material.unusable, len(material.cases) + len(material.unusable)
    if not bad:
        return Finding("ok", f"all {total:,} rows can be used", total=total)
    where, why = bad[0]
    return Finding(
        "error", f"{_rows(len(bad))} of {total:,} cannot be used: {why}", len(bad), total, where,
        todo="mend them, or leave them out with --skip-bad-rows",
    )  # fmt: skip


def beginning(material: Material) -> Finding:
    """Exactly one `<bos>`, and first."""
    bos = material.tokenizer.bos_id
    missing = [case for case in material.cases if case.example.ids[0] != bos]
    doubled = [case for case in material.cases if list(case.example.ids).count(bos) > 1]
    summary = f"<bos> is missing in {_rows(len(missing))}, twice or more in {_rows(len(doubled))}"
    if not missing and not doubled:
        summary = "each example begins with one <bos>"
    todo = "the task must put one <bos> first; leave it out of the text"
    return _about(material.cases, [*missing, *doubled], "error", summary, todo)


def end_of_answer(material: Material) -> Finding:
    """Each answer ends in a token that says so, and that token is learnt."""
    ends = material.ends
    outside: list[Case] = []
    without: list[Case] = []
    for case in material.cases:
        ids, runs = case.example.ids, case.runs()
        if runs == [(1, len(ids))]:
            continue  # running text, which may be a part of a document
        for _, end in runs:
            if ids[end - 1] in ends:
                continue
            (outside if end < len(ids) and ids[end] in ends else without).append(case)
            break
    summary = "every answer ends in a token that is learnt"
    if outside or without:
        summary = (
            f"the end of turn is not learnt in {_rows(len(outside))}, missing in "
            f"{_rows(len(without))}"
        )
    todo = "the model would not learn to stop: count the end of turn in the loss"
    return _about(material.cases, [*outside, *without], "error", summary, todo)


def cut_answers(material: Material) -> Finding:
    """Of each answer something is left within the longest length."""
    most = material.most
    lost = [case for case in material.cases if not any(case.example.target[:most])]
    summary = f"no token of the answer is left in {most:,} tokens in {_rows(len(lost))}"
    if not lost:
        summary = "each row has an answer to learn"
    todo = "raise --max-length, or shorten what stands before the answer"
    return _about(material.cases, lost, "error", summary, todo)


def too_long(material: Material) -> Finding:
    """Examples fit in the context."""
    lengths = [len(case.example.ids) for case in material.cases]
    long = [case for case in material.cases if len(case.example.ids) > material.most]
    longest = max(lengths, default=0)
    summary = f"the longest has {longest:,} tokens, {material.most:,} fit"
    if long:
        summary = f"{_rows(len(long))} exceed {material.most:,} tokens; {summary}"
    long.sort(key=lambda case: -len(case.example.ids))
    todo = "shorten them, take a model with a longer context, or leave them out"
    return _about(material.cases, long, "error", summary, todo)


def padding(material: Material) -> Finding:
    """What rows of one length would waste, against packing."""
    lengths = [len(case.example.ids) for case in material.train]
    if not lengths:
        return Finding("ok", "no rows")
    longest, text = max(lengths), sum(lengths)
    rows, length = choose_shape(lengths, material.batch_tokens)
    batches = -(-len(pack_rows(lengths, length)) // rows)
    packed = 1 - text / (batches * rows * length)
    alone = 1 - text / (longest * len(lengths))
    usual = f"{1 - text / (USUAL_LENGTH * len(lengths)):.0%} to {USUAL_LENGTH}"
    if longest > USUAL_LENGTH:
        beyond = sum(n > USUAL_LENGTH for n in lengths)
        usual = f"to {USUAL_LENGTH} it would cut off {_rows(beyond)}"
    summary = (
        f"{packed:.0%} of the slots packed, as here; {alone:.0%} padded to the longest "
        f"({longest:,} tokens), {usual}"
    )
    much = packed > MUCH_PADDING
    found = [case for case in material.train if len(case.example.ids) == longest] if much else []
    todo = "a larger --batch-tokens lets more examples share a row"
    return _about(material.train, found[:1], "warning", summary, todo)


def duplicates(material: Material) -> Finding:
    """Training rows that are there more than once."""
    repeated = _repeats(material.train, lambda case: tuple(map(int, case.example.ids)))
    summary = f"{_rows(len(repeated))} repeat another" if repeated else "no row is there twice"
    todo = "remove them; of rows split off for validation a copy may stay in training"
    return _about(material.train, repeated, "warning", summary, todo)


def contradictions(material: Material) -> Finding:
    """One question with different answers."""
    answers: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for case in material.train:
        answers.setdefault(case.question, set()).add(tuple(map(int, case.example.ids)))
    torn = [case for case in material.train if len(answers[case.question]) > 1]
    groups = len({case.question for case in torn})
    summary = "equal questions have equal answers"
    if torn:
        summary = f"answers differ in {_rows(len(torn))}, for equal questions ({groups:,} in all)"
    return _about(material.train, torn, "warning", summary, "keep the right answer of each")


def shared_rows(material: Material) -> Finding:
    """Validation rows whose question is in training too."""
    if not material.valid:
        return Finding("ok", "no validation file was given")
    known = {case.question for case in material.train}
    shared = [case for case in material.valid if case.question in known]
    severity: Severity = (
        "error" if len(shared) > MANY_SHARED * len(material.valid) else "warning"
    )  # fmt: skip
    summary = f"{_rows(len(shared))} of {len(material.valid):,} to validate are in training too"
    todo = "take them out of one of the files: scores of rows learnt by heart say nothing"
    return _about(material.valid, shared, severity, summary, todo)


def label_balance(material: Material) -> Finding:
    """Each label has rows enough beside the commonest."""
    counts = Counter(case.label for case in material.train if case.label is not None)
    if not counts:
        return Finding("ok", "the task has no labels")
    (common, most), (rare, least) = counts.most_common()[0], counts.most_common()[-1]
    summary = f"{len(counts)} labels, from {most:,} rows ({common}) to {least:,} ({rare})"
    summary += f"; always {common!r} would be right in {most / len(material.train):.0%}"
    scarce = least < FEW_OF_LABEL or least * RARE_LABEL < most
    found = [case for case in material.train if scarce and case.label == rare]
    todo = "add rows of the rare labels, and judge by macro-F1 instead of accuracy"
    return _about(material.train, found, "warning", summary, todo)


def untrained_turns(material: Material) -> Finding:
    """Chat turns are for models that were trained on them."""
    start = CHAT.start
    turn = material.tokenizer.token_to_id(start) if start in material.tokenizer else None
    using = [case for case in material.cases if turn in case.example.ids]
    if not using:
        return Finding("ok", "the examples hold no chat turns", total=len(material.cases))
    if material.knows_turns is None:
        summary, using = "examples hold chat turns; nothing tells whether the model knows them", []
    elif material.knows_turns:
        summary, using = "examples hold chat turns, and the model knows them", []
    else:
        summary = f"chat turns in {_rows(len(using))}; this base model was not trained on them"
    todo = "take its instruct variant, or a task with a plain template; else allow for more steps"
    return _about(material.cases, using, "warning", summary, todo)


def typed_tokens(material: Material) -> Finding:
    """Control tokens that somebody typed, or that a dump of other training data left."""
    tokenizer = material.tokenizer
    pieces = {tokenizer.id_to_piece(token) for token in tokenizer.special_ids}
    rows = {(case.where, case.text): case for case in material.cases}  # one may have many cases
    found = [
        (case, spelt)
        for case in rows.values()
        for spelt in BRACKETED.findall(case.text)
        if spelt in pieces
    ]
    if not found:
        return Finding("ok", "no text spells a control token", total=len(material.cases))
    counts = Counter(piece for _, piece in found)
    which = ", ".join(f"{piece} {count:,} times" for piece, count in counts.most_common(3))
    cases = list({id(case): case for case, _ in found}.values())
    todo = "they are read as plain text; remove those that were meant to steer a model"
    summary = f"control tokens spelt in {_rows(len(cases))}: {which}"
    return _about(material.cases, cases, "warning", summary, todo)


CHECKS: Mapping[str, Callable[[Material], Finding]] = MappingProxyType(
    {
        "rows": unusable_rows,
        "context": too_long,
        "beginning of text": beginning,
        "end of turn": end_of_answer,
        "answers": cut_answers,
        "chat template": untrained_turns,
        "special tokens": typed_tokens,
        "duplicates": duplicates,
        "contradictions": contradictions,
        "train and valid": shared_rows,
        "labels": label_balance,
        "padding": padding,
    }
)
"""Name → check, in the order in which they are told."""


def _about(
    cases: Sequence[Case], found: Sequence[Case], severity: Severity, summary: str, todo: str
) -> Finding:
    """A finding about rows, with the first of them; "ok" if there are none."""
    if not found:
        return Finding("ok", summary, total=len(cases))
    distinct = len({id(case) for case in found})
    first = found[0]
    return Finding(
        severity, summary, distinct, len(cases), first.where, shortened(first.shown), todo
    )


def _repeats(cases: Iterable[Case], key: Callable[[Case], object]) -> list[Case]:
    """The cases whose key an earlier one had."""
    seen: set[object] = set()
    repeated = []
    for case in cases:
        if key(case) in seen:
            repeated.append(case)
        seen.add(key(case))
    return repeated


def _rows(count: int) -> str:
    """
    >>> _rows(1), _rows(1200)
    ('1 row', '1,200 rows')
    """
    return "1 row" if count == 1 else f"{count:,} rows"

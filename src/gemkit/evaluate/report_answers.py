"""The report's part about answers: labels right and wrong, texts beside what was expected."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gemkit.evaluate.difference import differing
from gemkit.evaluate.markup import cut, safe, table
from gemkit.metrics.labels import ClassificationScores

MAX_SAMPLES, MAX_TEXTS = 200, 60
"""Samples shown: labels take a line each, texts half a screen."""
MAX_TEXT = 1200
# A larger confusion matrix is shown as a list of the commonest mistakes.
MAX_MATRIX = 16
# From this size on it has the page's whole width.
WIDE_MATRIX = 5
MAX_MISTAKES = 30

Row = Mapping[str, Any]


def labels_section(scores: ClassificationScores) -> str:
    """Scores by label and the confusion matrix."""
    rows = [
        [safe(s.label), *(f"{v:.3f}" for v in (s.precision, s.recall, s.f1)), str(s.support)]
        for s in scores.per_label
    ]
    figures = [(name, True) for name in ("Precision", "Recall", "F1", "Rows")]
    count = len(scores.labels)
    matrix = _matrix(scores) if count <= MAX_MATRIX else _mistakes(scores)
    kind = "card wide all" if WIDE_MATRIX <= count <= MAX_MATRIX else "card wide"
    return (
        "<section><h2>Where it is right</h2>"
        "<p>Precision: how many rows given a label have it. Recall: how many rows that have it "
        "were given it. F1 is low as soon as one of them is. In the matrix, mistakes lie off the "
        "diagonal.</p>"
        f'<div class="pair"><div class="card wide"><h3>By label</h3>'
        f'{table([("Label", False), *figures], rows)}</div>'
        f'<div class="{kind}">{matrix}</div></div></section>'
    )


def _matrix(scores: ClassificationScores) -> str:
    """Rows: truth. Shade: the share of the row's truth, so that rare labels show too."""
    lines = []
    for i, (label, row) in enumerate(zip(scores.labels, scores.confusion, strict=True)):
        cells = ""
        for j, count in enumerate(row):
            shade = 0.08 + 0.5 * count / max(sum(row), 1) if count else 0
            kind = "hit" if i == j else "miss"
            cells += f'<td class="{kind}" style="--a:{shade:.2f}">{count}</td>'
        lines.append(f'<tr><th scope="row">{safe(label)}</th>{cells}</tr>')
    heads = "".join(f'<th scope="col">{safe(label)}</th>' for label in scores.labels)
    return (
        '<h3>Confusion: truth down, answer across</h3><table class="matrix"><thead><tr><th></th>'
        f"{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _mistakes(scores: ClassificationScores) -> str:
    rows = [
        [safe(truth), safe(answer), str(count)]
        for truth, answer, count in scores.mistakes()[:MAX_MISTAKES]
    ]
    head = [("Truth", False), ("Answer", False), ("Rows", True)]
    return f"<h3>Commonest mistakes</h3>{table(head, rows)}"


def labelled_section(samples: Sequence[Row]) -> str:
    """Texts with a label each: a line a row, the wrong ones first."""

    def order(sample: Row) -> tuple[bool, float]:
        """Wrong ones first, the surest first among them; then right ones, the least sure first."""
        right = sample.get("after") == sample.get("truth")
        sure = sample.get("after_probability")
        sure = float(sure) if isinstance(sure, int | float) else 0.0
        return right, sure if right else -sure

    wrong = sum(s.get("after") != s.get("truth") for s in samples)
    note = (
        f"{wrong} of {len(samples)} wrong. Wrong ones come first, the surest of them on top: "
        "they show what the model has misunderstood, or a wrong label in the file. Then come "
        "right ones, the least sure first. Beside an answer stands its probability."
    ) + _left_out(len(samples), MAX_SAMPLES)
    rows = "".join(_labelled(sample) for sample in sorted(samples, key=order)[:MAX_SAMPLES])
    heads = "<th>Text</th><th>Truth</th><th>Before</th><th>After</th>"
    return (
        f"<section><h2>Answers</h2><p>{safe(note)}</p>"
        f'<div class="card wide"><table class="samples"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _labelled(sample: Row) -> str:
    cells = f'<td dir="auto">{cut(sample.get("text", ""), MAX_TEXT)}</td>'
    cells += f'<td dir="auto" data-head="Truth">{cut(sample.get("truth", ""), MAX_TEXT)}</td>'
    for key in ("before", "after"):
        answer, head = sample.get(key), key.capitalize()
        if answer is None:
            cells += f'<td data-head="{head}">–</td>'
            continue
        kind, mark = ("good", "✓") if answer == sample.get("truth") else ("bad", "✗")
        text = f'<span class="{kind}">{mark} {cut(answer, MAX_TEXT)}</span>'
        sure = sample.get(f"{key}_probability")
        if isinstance(sure, int | float):
            text += f"<small>{_probability(sure)}</small>"
        cells += f'<td dir="auto" data-head="{head}">{text}</td>'
    return f"<tr>{cells}</tr>"


def _probability(value: float) -> str:
    """Per cent; rounding never claims certainty."""
    return "&gt; 99%" if 0.995 <= value < 1 else f"{value:.0%}"


def texts_section(samples: Sequence[Row], code: bool = False) -> str:
    """Answers that are texts: a card a row, with what differs from the expected text marked.

    code: in letters of one width.
    """
    same = {
        key: sum(_equal(sample.get(key), sample.get("truth")) for sample in samples)
        for key in ("before", "after")
    }
    note = (
        f"{same['after']} of {len(samples)} are as expected, word for word; before tuning, "
        f"{same['before']}. Words that differ from the expected text are marked, and in it those "
        "that the answer after tuning lacks, where the two have enough in common."
    ) + _left_out(len(samples), MAX_TEXTS)
    cards = "".join(_text(sample) for sample in samples[:MAX_TEXTS])
    kind = "texts code" if code else "texts"
    head = f"<section><h2>Answers</h2><p>{safe(note)}</p>"
    return f'{head}<div class="{kind}">{cards}</div></section>'


def _text(sample: Row) -> str:
    truth, after = str(sample.get("truth", "")), sample.get("after")
    shown = {
        "Expected": (truth, str(after if after is not None else truth), "missed"),
        "Before": (sample.get("before"), truth, "other"),
        "After": (after, truth, "other"),
    }
    columns = ""
    for head, (text, other, kind) in shown.items():
        right = head != "Expected" and _equal(text, truth)
        mark = ' <span class="good">✓</span>' if right else ""
        body = "–" if text is None else _marked(str(text), other, kind)
        columns += f'<div><h4>{head}{mark}</h4><div class="text" dir="auto">{body}</div></div>'
    asked = cut(sample.get("text", ""), MAX_TEXT)
    return (
        f'<article class="card"><div class="asked text" dir="auto">{asked}</div>'
        f'<div class="versions">{columns}</div></article>'
    )


def _marked(text: str, other: str, kind: str) -> str:
    if not text.strip():
        return '<span class="none">nothing</span>'
    parts = differing(text[:MAX_TEXT], other[:MAX_TEXT])
    html = "".join(_mark(part, kind) if differs else safe(part) for part, differs in parts)
    return html + (cut(text[MAX_TEXT:], 0) if len(text) > MAX_TEXT else "")


def _mark(part: str, kind: str) -> str:
    """Marks what is visible of a part: not the line ends, indentation and blanks around it."""
    pieces = re.split(r"(^\s+|\s*\n\s*|\s+$)", part)
    return "".join(
        f'<mark class="{kind}">{safe(piece)}</mark>' if piece.strip() else safe(piece)
        for piece in pieces
    )


def _equal(answer: Any, truth: Any) -> bool:
    return answer is not None and str(answer).split() == str(truth).split()


def _left_out(count: int, most: int) -> str:
    if count <= most:
        return ""
    return f" The first {most} are shown; predictions.tsv has all."

"""report.html of a run: one file without scripts or anything fetched, to be read anywhere.

Every text that comes from outside (rows, labels, settings) goes through `_safe`; the page's own
content policy forbids scripts and requests besides.
"""

import importlib.resources
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from gemkit.atomic import write_bytes
from gemkit.errors import DataError
from gemkit.evaluate.curves import Line, chart, smooth
from gemkit.evaluate.metrics import ClassificationScores

MAX_SAMPLES = 200
MAX_TEXT = 1200
# A larger confusion matrix is shown as a list of the commonest mistakes.
MAX_MATRIX = 16
# From this size on it has the page's whole width.
WIDE_MATRIX = 5
MAX_MISTAKES = 30
SMOOTHED_FROM = 30

Row = Mapping[str, Any]


def write_report(
    run_dir: Path,
    run: Mapping[str, Any],
    history: Sequence[Row],
    scores: ClassificationScores | None = None,
    samples: Sequence[Row] = (),
) -> Path:
    """Writes `run_dir`/report.html, whole or not at all, and returns its path.

    Args:
        run: what run.json holds: task, model (each a name or a dict with one), data, settings,
            versions, seed, metrics. Of `metrics`, `accuracy_before` is used in the summary.
        history: training rows {step, epoch, loss, learning_rate, tokens, seconds} (tokens and
            seconds of that step) and validation rows {step, valid_loss, valid_accuracy,
            valid_macro_f1}; what is missing or not finite is left out.
        scores: of the validation rows after tuning; None for tasks without labels.
        samples: {text, truth, before, after} and, with labels, the probabilities of the two
            answers as before_probability and after_probability.

    Raises DataError where the file cannot be written.
    """
    path = Path(run_dir) / "report.html"
    page = render(run, history, scores, samples).encode("utf-8", "replace")
    write_bytes(path, page, DataError)
    return path


def render(
    run: Mapping[str, Any],
    history: Sequence[Row],
    scores: ClassificationScores | None,
    samples: Sequence[Row],
) -> str:
    """The page as text; arguments as in `write_report`."""
    template = importlib.resources.files(__package__).joinpath("report_template.html")
    task, model = _name(run.get("task")), _name(run.get("model"))
    sections = [
        _tiles(run, history, scores),
        _curves(history),
        _scores(scores) if scores else "",
        _samples(samples, scores is not None),
        _settings(run),
    ]
    return Template(template.read_text("utf-8")).substitute(
        title=_safe(": ".join(filter(None, (task[:1].upper() + task[1:], model))) or "Run"),
        summary=_safe(_summary(run, history, scores)),
        body="\n".join(section for section in sections if section),
    )


def _safe(value: Any) -> str:
    """Text for HTML, attributes included; control characters but tab and line feed are dropped."""
    text = str(value)
    return escape("".join(c for c in text if c in "\t\n" or not 0 <= ord(c) < 32))


def _name(value: Any) -> str:
    return str(value.get("name", "")) if isinstance(value, Mapping) else str(value or "")


def _number(value: Any) -> str:
    """A figure for reading: 0.0003, 1,363,968, 2.31."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return "not a number"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _points(history: Sequence[Row], key: str) -> list[tuple[float, float]]:
    """(step, value) of the rows that have a finite number there."""
    return [
        (float(row["step"]), float(row[key]))
        for row in history
        if isinstance(row.get(key), int | float)
        and isinstance(row.get("step"), int | float)
        and math.isfinite(row[key])
    ]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.3g} s"


def _summary(
    run: Mapping[str, Any], history: Sequence[Row], scores: ClassificationScores | None
) -> str:
    if scores:
        right = f"{scores.correct} of {scores.count}"
        told = f"After tuning, {right} validation rows are labelled right"
        before = (run.get("metrics") or {}).get("accuracy_before")
        if isinstance(before, int | float):
            told += f"; before, {round(before * scores.count)}"
        return told + "."
    valid, train = _points(history, "valid_loss"), _points(history, "loss")
    for name, points in (("validation", valid), ("training", train)):
        if len(points) > 1:
            (_, first), (steps, last) = points[0], points[-1]
            return f"The {name} loss went from {first:.3f} to {last:.3f} in {steps:g} steps."
    return "This run has no measured steps."


def _tiles(
    run: Mapping[str, Any], history: Sequence[Row], scores: ClassificationScores | None
) -> str:
    tiles: list[tuple[str, str, str]] = []
    before = (run.get("metrics") or {}).get("accuracy_before")
    if scores:
        note = f"{before:.1%} before tuning" if isinstance(before, int | float) else ""
        tiles.append(("Accuracy", f"{scores.accuracy:.1%}", note or f"{scores.count} rows"))
        tiles.append(("Macro-F1", f"{scores.macro_f1:.3f}", "mean over the labels"))
    for name, key in (("Validation loss", "valid_loss"), ("Training loss", "loss")):
        points = _points(history, key)
        if points and (key == "valid_loss" or not scores):
            note = f"{points[0][1]:.3f} at step {points[0][0]:g}" if len(points) > 1 else ""
            tiles.append((name, f"{points[-1][1]:.3f}", note))
    train = _points(history, "loss")
    tokens = sum(value for _, value in _points(history, "tokens"))
    seconds = sum(value for _, value in _points(history, "seconds"))
    if train and seconds > 0:
        steps = f"{train[-1][0]:g} steps"
        tiles.append(("Training time", _duration(seconds), steps))
        if tokens:
            tiles.append(("Tokens", f"{tokens:,.0f}", f"{tokens / seconds:,.0f} a second"))
    cells = (
        f'<div class="card"><span>{_safe(name)}</span><b>{_safe(value)}</b>'
        f"<small>{_safe(note)}</small></div>"
        for name, value, note in tiles
    )
    return f'<div class="tiles">{"".join(cells)}</div>' if tiles else ""


def _curves(history: Sequence[Row]) -> str:
    loss, valid = _points(history, "loss"), _points(history, "valid_loss")
    many = len(loss) >= SMOOTHED_FROM
    lines = [
        Line("each step", loss if many else [], colour=1, faint=True),
        Line("training", smooth(loss) if many else loss, colour=1),
        Line("validation", valid, colour=2, dots=True),
    ]
    shares = [
        Line("accuracy", _points(history, "valid_accuracy"), colour=2, dots=True),
        Line("macro-F1", _points(history, "valid_macro_f1"), colour=3, dots=True),
    ]
    rate = [Line("learning rate", _points(history, "learning_rate"), colour=3)]
    charts = [
        chart("Loss", lines),
        chart("Validation", shares, share=True),
        chart("Learning rate", rate),
    ]
    if not any(charts):
        return ""
    return (
        "<section><h2>Course of training</h2>"
        "<p>Loss is how surprised the model is by the right answer, lower is better. If validation "
        "rises while training still falls, the model is learning its rows by heart: use fewer "
        "epochs or more rows.</p>"
        f'<div class="charts">{"".join(charts)}</div></section>'
    )


def _scores(scores: ClassificationScores) -> str:
    rows = "".join(
        f"<tr><td>{_safe(s.label)}</td>"
        + "".join(f'<td class="n">{v:.3f}</td>' for v in (s.precision, s.recall, s.f1))
        + f'<td class="n">{s.support}</td></tr>'
        for s in scores.per_label
    )
    heads = "".join(f'<th class="n">{name}</th>' for name in ("Precision", "Recall", "F1", "Rows"))
    count = len(scores.labels)
    matrix = _matrix(scores) if count <= MAX_MATRIX else _mistakes(scores)
    kind = "card wide all" if WIDE_MATRIX <= count <= MAX_MATRIX else "card wide"
    return (
        "<section><h2>Where it is right</h2>"
        "<p>Precision: how many rows given a label have it. Recall: how many rows that have it "
        "were given it. F1 is low as soon as one of them is. In the matrix, mistakes lie off the "
        "diagonal.</p>"
        f'<div class="pair"><div class="card wide"><h3>By label</h3><table><thead><tr>'
        f"<th>Label</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        f'<div class="{kind}">{matrix}</div></div>'
        "</section>"
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
        lines.append(f'<tr><th scope="row">{_safe(label)}</th>{cells}</tr>')
    heads = "".join(f'<th scope="col">{_safe(label)}</th>' for label in scores.labels)
    return (
        '<h3>Confusion: truth down, answer across</h3><table class="matrix"><thead><tr><th></th>'
        f"{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _mistakes(scores: ClassificationScores) -> str:
    rows = "".join(
        f'<tr><td>{_safe(truth)}</td><td>{_safe(answer)}</td><td class="n">{count}</td></tr>'
        for truth, answer, count in scores.mistakes()[:MAX_MISTAKES]
    )
    return (
        "<h3>Commonest mistakes</h3><table><thead><tr><th>Truth</th><th>Answer</th>"
        f'<th class="n">Rows</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _samples(samples: Sequence[Row], labelled: bool) -> str:
    if not samples:
        return ""

    def order(sample: Row) -> tuple[bool, float]:
        """Wrong ones first, the surest first among them; then right ones, the least sure first."""
        right = sample.get("after") == sample.get("truth")
        sure = sample.get("after_probability")
        sure = float(sure) if isinstance(sure, int | float) else 0.0
        return right, sure if right else -sure

    shown = sorted(samples, key=order) if labelled else list(samples)
    rows = "".join(_sample(sample, labelled) for sample in shown[:MAX_SAMPLES])
    wrong = sum(s.get("after") != s.get("truth") for s in samples)
    note = "Answers before and after tuning."
    if labelled:
        note = (
            f"{wrong} of {len(samples)} wrong. Wrong ones come first, the surest of them on top: "
            "they show what the model has misunderstood, or a wrong label in the file. Then come "
            "right ones, the least sure first. Beside an answer stands its probability."
        )
    if len(samples) > MAX_SAMPLES:
        note += f" The first {MAX_SAMPLES} are shown; predictions.tsv has all."
    kind = "samples" if labelled else "samples long"
    heads = "<th>Text</th><th>Truth</th><th>Before</th><th>After</th>"
    return (
        f"<section><h2>Answers</h2><p>{_safe(note)}</p>"
        f'<div class="card wide"><table class="{kind}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _sample(sample: Row, labelled: bool) -> str:
    cells = f'<td dir="auto">{_cut(sample.get("text", ""))}</td>'
    cells += f'<td dir="auto" data-head="Truth">{_cut(sample.get("truth", ""))}</td>'
    for key in ("before", "after"):
        answer = sample.get(key)
        if answer is None:
            cells += f'<td data-head="{key.capitalize()}">–</td>'
            continue
        text, sure = _cut(answer), sample.get(f"{key}_probability")
        if labelled:
            kind, mark = ("good", "✓") if answer == sample.get("truth") else ("bad", "✗")
            text = f'<span class="{kind}">{mark} {text}</span>'
        if isinstance(sure, int | float):
            text += f"<small>{_probability(sure)}</small>"
        cells += f'<td dir="auto" data-head="{key.capitalize()}">{text}</td>'
    return f"<tr>{cells}</tr>"


def _probability(value: float) -> str:
    """Per cent; rounding never claims certainty."""
    return "&gt; 99%" if 0.995 <= value < 1 else f"{value:.0%}"


def _cut(value: Any) -> str:
    text = str(value)
    more = f"… ({len(text) - MAX_TEXT:,} more characters)" if len(text) > MAX_TEXT else ""
    return _safe(text[:MAX_TEXT] + more)


def _settings(run: Mapping[str, Any]) -> str:
    """Everything else in run.json, a card a key, in its order; single values in a card first."""
    single = {key: value for key, value in run.items() if not isinstance(value, Mapping | list)}
    grouped = {key: value for key, value in run.items() if key not in single and value}
    groups = ({"run": single} if single else {}) | grouped
    if not groups:
        return ""
    cards = "".join(
        f'<div class="card"><h3>{_words(key)}</h3>{_facts(value)}</div>'
        for key, value in groups.items()
    )
    return (
        "<section><h2>How it was made</h2>"
        "<p>All that is needed to repeat the run. A file with another hash is another file.</p>"
        f'<div class="facts">{cards}</div></section>'
    )


def _words(key: Any) -> str:
    return _safe(str(key).replace("_", " "))


def _facts(value: Any) -> str:
    if isinstance(value, Mapping):
        rows = "".join(f"<dt>{_words(k)}</dt><dd>{_facts(v)}</dd>" for k, v in value.items())
        return f"<dl>{rows}</dl>"
    if isinstance(value, list | tuple):
        if all(not isinstance(item, Mapping | list | tuple) for item in value):
            return _safe(", ".join(_number(item) for item in value)) or "none"
        return "".join(f"<div>{_facts(item)}</div>" for item in value)
    if value is None:
        return "–"
    return ("yes" if value else "no") if isinstance(value, bool) else _safe(_number(value))

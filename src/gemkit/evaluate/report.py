"""report.html of a run: one file without scripts or anything fetched, to be read anywhere.

Every text that comes from outside (rows, labels, settings) goes through `markup.safe`; the page's
own content policy forbids scripts and requests besides.
"""

import importlib.resources
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from gemkit.atomic import write_bytes
from gemkit.errors import DataError
from gemkit.evaluate.curves import Line, chart, smooth
from gemkit.evaluate.markup import duration, facts, safe, table, words
from gemkit.evaluate.report_answers import labelled_section, labels_section, texts_section
from gemkit.metrics.labels import ClassificationScores
from gemkit.metrics.scores import METRICS, Metric

SMOOTHED_FROM = 30
MAX_TILES = 2
"""Metrics that have a tile of their own; the table has all."""
CODE_TASKS = ("complete",)
WRITTEN_SMALL = ("chrF",)
HUNDREDS = ("bleu", "chrf")
"""Metrics from 0 to 100; the others that answers give go from 0 to 1."""
MEANINGS = {
    "accuracy": "share of the rows with the right label",
    "macro_f1": "mean over the labels of how well each is found; rare ones count as much",
    "loss": "mean surprise at each right token, lower is better",
    "perplexity": "among how many tokens it wavers as it reads, lower is better",
    "bits_per_byte": "as loss, whatever the vocabulary; lower is better",
    "bleu": "sequences of words shared with the expected text, 0 to 100",
    "chrf": "sequences of letters shared with the expected text, 0 to 100",
    "exact_match": "share of the rows answered as expected, character for character",
    "edit_similarity": "1 less the share of characters to change",
    "pass@1": "share of the completed files that run and whose tests pass",
}

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
            versions, seed, metrics: those after tuning by their names in
            `metrics.scores.METRICS`, before it with `_before` behind the name, and `rows`.
        history: training rows {step, epoch, loss, accuracy, learning_rate, tokens, slots,
            seconds, gradient_norm, peak_memory} and validation rows {step, valid_loss, and a
            measure each with valid_ before its name}; what is missing or not finite is left out.
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
        _tiles(run, history),
        _measures(run),
        _curves(history),
        labels_section(scores) if scores else "",
        _answers(samples, scores, task),
        _settings(run),
    ]
    return Template(template.read_text("utf-8")).substitute(
        title=safe(": ".join(filter(None, (task[:1].upper() + task[1:], model))) or "Run"),
        summary=safe(_summary(run, history, scores)),
        body="\n".join(section for section in sections if section),
    )


def _name(value: Any) -> str:
    return str(value.get("name", "")) if isinstance(value, Mapping) else str(value or "")


def _points(history: Sequence[Row], key: str) -> list[tuple[float, float]]:
    """(step, value) of the rows that have a finite number there."""
    return [
        (float(row["step"]), float(row[key]))
        for row in history
        if _is_figure(row.get(key)) and _is_figure(row.get("step"))
    ]


def _is_figure(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _title(metric: Metric) -> str:
    """Its name at the beginning of a line."""
    title = metric.title
    return title if title in WRITTEN_SMALL else title[:1].upper() + title[1:]


def _measured(run: Mapping[str, Any]) -> list[tuple[str, Metric, float, float | None]]:
    """(name, metric, value after, value before) of what was measured; those of answers first."""
    metrics = run.get("metrics") or {}
    found = [
        (name, METRICS[name], value, before if _is_figure(before) else None)
        for name, value in metrics.items()
        if name in METRICS and _is_figure(value)
        for before in (metrics.get(f"{name}_before"),)
    ]
    return sorted(found, key=lambda measure: measure[1].of_loss)


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
    for _, metric, after, before in _measured(run)[:1]:
        if before is not None:
            figures = f"{metric.show(before)} to {metric.show(after)}"
            rows = run["metrics"].get("answered", run["metrics"].get("rows", "the"))
            return f"{_title(metric)} went from {figures} on {rows} validation rows."
    valid, train = _points(history, "valid_loss"), _points(history, "loss")
    for name, points in (("validation", valid), ("training", train)):
        if len(points) > 1:
            (_, first), (steps, last) = points[0], points[-1]
            return f"The {name} loss went from {first:.3f} to {last:.3f} in {steps:g} steps."
    return "This run has no measured steps."


def _tiles(run: Mapping[str, Any], history: Sequence[Row]) -> str:
    tiles: list[tuple[str, str, str]] = []
    measured = [measure for measure in _measured(run) if measure[0] != "loss"]
    for _, metric, after, before in measured[:MAX_TILES]:
        note = "" if before is None else f"{metric.show(before)} before tuning"
        tiles.append((_title(metric), metric.show(after), note))
    for name, key in (("Validation loss", "valid_loss"), ("Training loss", "loss")):
        points = _points(history, key)
        if points and (key == "valid_loss" or not tiles):
            note = f"{points[0][1]:.3f} at step {points[0][0]:g}" if len(points) > 1 else ""
            tiles.append((name, f"{points[-1][1]:.3f}", note))
    tiles += _costs(history)
    cells = (
        f'<div class="card"><span>{safe(name)}</span><b>{safe(value)}</b>'
        f"<small>{safe(note)}</small></div>"
        for name, value, note in tiles
    )
    return f'<div class="tiles">{"".join(cells)}</div>' if tiles else ""


def _costs(history: Sequence[Row]) -> list[tuple[str, str, str]]:
    """Tiles of time, tokens, padding and memory, each where the history tells."""
    train = _points(history, "loss")
    tokens, slots, seconds = (
        sum(value for _, value in _points(history, key)) for key in ("tokens", "slots", "seconds")
    )
    memory = max((value for _, value in _points(history, "peak_memory")), default=0)
    tiles = []
    if train and seconds > 0:
        tiles.append(("Training time", duration(seconds), f"{train[-1][0]:g} steps"))
        if tokens:
            tiles.append(("Tokens", f"{tokens:,.0f}", f"{tokens / seconds:,.0f} a second"))
    if slots:
        tiles.append(("Padding", f"{1 - tokens / slots:.1%}", "of the slots hold nothing"))
    if memory:
        tiles.append(("Memory", f"{memory / 2**30:.2f} GiB", "at most at once"))
    return tiles


def _measures(run: Mapping[str, Any]) -> str:
    """All metrics before and after."""
    rows = []
    for name, metric, after, before in _measured(run):
        change = ""
        if before is not None:
            better = after != before and (after > before) == metric.up
            kind = "good" if better else "bad" if after != before else ""
            by = after - before
            form = f"{by * 100:+.1f} points" if "%" in metric.form else f"{by:+{metric.form}}"
            change = f'<span class="{kind}">{form.replace("-", "−")}</span>'
        meaning = f"<small>{safe(MEANINGS.get(name, ''))}</small>"
        shown = "–" if before is None else metric.show(before)
        rows.append([safe(_title(metric)) + meaning, shown, f"<b>{metric.show(after)}</b>", change])
    if not rows:
        return ""
    head = [("Measure", False), *((name, True) for name in ("Before", "After", "Change"))]
    return (
        '<section><h2>Before and after</h2><p>On the validation rows, which the model did not '
        f'learn from.</p><div class="card wide measures">{table(head, rows)}</div></section>'
    )


def _curves(history: Sequence[Row]) -> str:
    loss, valid = _points(history, "loss"), _points(history, "valid_loss")
    answered = [name for name in METRICS if _points(history, f"valid_{name}") and name != "loss"]
    shares = [name for name in answered if name not in HUNDREDS]
    hundreds = [name for name in answered if name in HUNDREDS]
    speeds = [
        {"step": row.get("step"), "speed": row["tokens"] / row["seconds"]}
        for row in history
        if _is_figure(row.get("tokens")) and _is_figure(row.get("seconds")) and row["seconds"] > 0
    ]
    charts = [
        chart("Loss", [*_line("training", loss, 1), Line("validation", valid, 2, dots=True)]),
        chart("Tokens right", _line("training", _points(history, "accuracy"), 1), share=True),
        chart("Validation", _measure_lines(history, shares), share=True),
        chart("Validation", _measure_lines(history, hundreds)),
        chart("Learning rate", [Line("rate", _points(history, "learning_rate"), 3)]),
        chart("Gradient norm", _line("norm", _points(history, "gradient_norm"), 3)),
        chart("Tokens a second", _line("speed", _points(speeds, "speed"), 3)),
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


def _line(name: str, points: list[tuple[float, float]], colour: int) -> list[Line]:
    """A figure of each step; of many steps smoothed, with what they are behind it."""
    if len(points) < SMOOTHED_FROM:
        return [Line(name, points, colour)]
    return [Line("each step", points, colour, faint=True), Line(name, smooth(points), colour)]


def _measure_lines(history: Sequence[Row], names: Sequence[str]) -> list[Line]:
    return [
        Line(METRICS[name].title, _points(history, f"valid_{name}"), 2 + place % 2, dots=True)
        for place, name in enumerate(names)
    ]


def _answers(samples: Sequence[Row], scores: ClassificationScores | None, task: str) -> str:
    if not samples:
        return ""
    if scores is not None:
        return labelled_section(samples)
    return texts_section(samples, code=task in CODE_TASKS)


def _settings(run: Mapping[str, Any]) -> str:
    """Everything else in run.json, a card a key, in its order; single values in a card first."""
    rest = {key: value for key, value in run.items() if key != "metrics"}
    single = {key: value for key, value in rest.items() if not isinstance(value, Mapping | list)}
    grouped = {key: value for key, value in rest.items() if key not in single and value}
    groups = ({"run": single} if single else {}) | grouped
    if not groups:
        return ""
    cards = "".join(
        f'<div class="card"><h3>{words(key)}</h3>{facts(value)}</div>'
        for key, value in groups.items()
    )
    return (
        "<section><h2>How it was made</h2>"
        "<p>All that is needed to repeat the run. A file with another hash is another file.</p>"
        f'<div class="facts">{cards}</div></section>'
    )

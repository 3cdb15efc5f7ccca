"""The report: whole, inert whatever the data holds, and readable without anything fetched."""

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gemkit.errors import DataError
from gemkit.evaluate.curves import MAX_POINTS, Line, chart, smooth, thin, ticks
from gemkit.evaluate.difference import differing
from gemkit.evaluate.report import MEANINGS, write_report
from gemkit.evaluate.report_answers import MAX_SAMPLES, MAX_TEXTS
from gemkit.metrics.labels import score_labels
from gemkit.metrics.scores import METRICS

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;$title"
RUN: dict[str, Any] = {
    "task": "classify",
    "model": {"name": "nano", "parameters": 7340032},
    "data": [{"path": "a.tsv", "rows": 3, "sha256": "ab" * 32}],
    "settings": {"rank": 4, "targets": ["query", "value"], "full": False, "stop": None},
    "seed": 0,
    "metrics": {
        "accuracy": 0.75, "macro_f1": 0.7, "rows": 4,
        "accuracy_before": 0.25, "macro_f1_before": 0.75,
    },
}
VOID = {"meta", "img", "br", "path", "circle"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; open tags must close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID or tag == "circle":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def history() -> list[dict[str, float]]:
    rows = [
        {"step": s, "epoch": s / 9, "loss": 1 / s, "learning_rate": 1e-3, "tokens": 100,
         "seconds": 0.5, "slots": 125, "accuracy": 0.5, "gradient_norm": 0.1,
         "peak_memory": 2**30 + s}
        for s in range(1, 41)
    ]  # fmt: skip
    rows += [{"step": 40, "valid_loss": 0.5, "valid_accuracy": 0.75, "valid_macro_f1": 0.7}]
    return rows


def samples() -> list[dict[str, Any]]:
    return [
        {"text": f"text {i}", "truth": "a", "before": "b", "after": after,
         "before_probability": 0.5, "after_probability": sure}
        for i, (after, sure) in enumerate([("a", 0.999), ("b", 0.6), ("a", 0.7), ("b", 0.9)])
    ]  # fmt: skip


def written(folder: Path, *args: Any) -> str:
    path = write_report(folder, *args)
    assert path == folder / "report.html"
    return path.read_text("utf-8")


def test_a_whole_report(tmp_path: Path) -> None:
    scores = score_labels(["a", "a", "a", "b"], ["a", "b", "a", "b"])
    page = Page(written(tmp_path, RUN, history(), scores, samples()))
    for text in (
        "Classify: nano", "3 of 4 validation rows are labelled right; before, 1", "75.0%",
        "20 s", "40 steps", "4,000", "200 a second", "Course of training", "ab" * 32,
        "query, value", "7,340,032", "> 99%", "20.0%", "1.00 GiB", "+50.0 points", "−0.050",
    ):  # fmt: skip
        assert text in page.text, text
    assert page.tags.count("svg") == 6
    order = [page.text.index(f"text {i}") for i in (3, 1, 2, 0)]
    assert order == sorted(order), "wrong ones first, the surest on top"


def test_data_is_inert(tmp_path: Path) -> None:
    run = {
        "task": EVIL, "model": {"name": EVIL, EVIL: EVIL}, "settings": {EVIL: [EVIL]}, EVIL: EVIL,
    }  # fmt: skip
    scores = score_labels([EVIL, "b"], ["b", "b"])
    sample = {"text": EVIL, "truth": EVIL, "before": EVIL, "after": "b"}
    page = Page(written(tmp_path, run, history(), scores, [sample]))
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(EVIL) == 18


def test_nothing_is_fetched(tmp_path: Path) -> None:
    scores = score_labels(["a", "b"], ["a", "b"])
    text = written(tmp_path, RUN, history(), scores, samples())
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|//|url\(|@import|\b(src|href)=", text)
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"step": 1, "loss": math.nan, "learning_rate": math.inf}],
        [{"step": 1, "loss": 2.0}],
        [{"step": s, "loss": 1.0, "seconds": 0.0, "tokens": 0} for s in (1, 2)],
        [{"step": s, "valid_loss": 0.0} for s in (1, 2)],
    ],
)
def test_poor_runs_have_a_report_too(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    text = written(tmp_path, {}, rows, None, [])
    Page(text)
    assert not re.search(r"\b(nan|inf)\b", text)


def test_tasks_without_labels(tmp_path: Path) -> None:
    sample = {"text": "x" * 5000, "truth": "yes", "before": None, "after": "ye\x00s\ud800"}
    run = RUN | {"task": "instruct", "metrics": {}}
    page = Page(written(tmp_path, run, history(), None, [sample]))
    assert "The training loss went from 1.000 to 0.025 in 40 steps." in page.text
    assert "(3,800 more characters)" in page.text
    assert "✗" not in page.text and "yes?" in page.text


TEXTS = [
    {"text": "Hi you", "truth": "Salut à toi", "before": "", "after": "Salut à vous"},
    {"text": "Good morning", "truth": "Bonjour", "before": "Good morning", "after": "Bonjour "},
]


def test_answers_that_are_texts(tmp_path: Path) -> None:
    metrics = {"bleu": 21.44, "bleu_before": 3.25, "perplexity": 3.0, "perplexity_before": 9.0}
    run = RUN | {"task": {"name": "translate"}, "metrics": {**metrics, "rows": 90, "answered": 2}}
    rows = [{"step": step, "valid_bleu": 10.0 * step, "valid_loss": 1 / step} for step in (1, 2)]
    text = written(tmp_path, run, rows, None, TEXTS)
    page = Page(text)
    for said in (
        "Translate: nano", "BLEU went from 3.2 to 21.4 on 2 validation rows.", "+18.2", "−6.00",
        "1 of 2 are as expected, word for word; before tuning, 0.", "Hi you", "nothing",
        "step 2: 20",
    ):  # fmt: skip
        assert said in page.text, said
    assert re.findall(r'<mark class="(\w+)">([^<]+)</mark>', text) == [
        ("missed", "toi"), ("other", "vous")
    ]  # fmt: skip
    assert text.count('<span class="good">') == 3, "an answer and two better figures"


def test_code_has_letters_of_one_width(tmp_path: Path) -> None:
    for task, kind in (("complete", "texts code"), ("instruct", "texts")):
        text = written(tmp_path, {"task": {"name": task}}, [], None, TEXTS)
        assert f'<div class="{kind}">' in text


def test_every_meaning_is_of_a_metric() -> None:
    assert set(MEANINGS) <= set(METRICS)


@pytest.mark.parametrize(
    ("text", "other", "parts"),
    [
        ("same", "same", [("same", False)]),
        ("", "something", [("", False)]),
        ("a b c d", "a b", [("a b", False), (" c d", True)]),
        ("one two three four", "one x y four",
         [("one ", False), ("two three", True), (" four", False)]),
        ("a, b, c", "x, y, z", [("a, b, c", False)]),
    ],
)  # fmt: skip
def test_what_differs(text: str, other: str, parts: list[tuple[str, bool]]) -> None:
    found = differing(text, other)
    assert found == parts
    assert "".join(part for part, _ in found) == text


def test_blanks_are_not_marked(tmp_path: Path) -> None:
    code = {"truth": "a = 1\n    b = 2\n    c = 3", "after": "a = 1\n    c = 3", "text": "?"}
    text = written(tmp_path, RUN, [], None, [code])
    assert re.findall("<mark[^>]*>([^<]+)<", text) == ["b = 2"]


def test_much_data_makes_a_small_file(tmp_path: Path) -> None:
    rows = [{"step": s, "loss": 1.0, "learning_rate": 1.0} for s in range(100_000)]
    labels = [str(i) for i in range(100)]
    scores = score_labels(labels, labels[::-1])
    many = [{"text": "t" * 100, "truth": "0", "before": "0", "after": "1"}] * 10_000
    text = written(tmp_path, RUN, rows, scores, many)
    assert len(text) < 200_000
    assert text.count("<tr><td dir") == MAX_SAMPLES
    assert "predictions.tsv has all" in text and "Commonest mistakes" in text
    text = written(tmp_path, RUN, rows, None, many)
    assert len(text) < 200_000
    assert text.count("<article") == MAX_TEXTS and "predictions.tsv has all" in text


def test_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_report(tmp_path / "file", RUN, [], None, [])


def test_ticks_are_round_and_inside() -> None:
    for low, high in ((0, 1), (0, 3e-4), (17, 23), (-2.5, 1e6), (1, 2)):
        marks = ticks(low, high)
        assert 3 <= len(marks) <= 7 and low <= marks[0] and marks[-1] <= high
    assert ticks(5, 5) == [5]


def test_lines_are_thinned_without_changing_their_mean() -> None:
    points = [(float(i), float(i % 7)) for i in range(10 * MAX_POINTS)]
    few = thin([*points, (1.0, math.nan)])
    assert len(few) == MAX_POINTS
    mean = sum(y for _, y in points) / len(points)
    assert sum(y for _, y in few) / len(few) == pytest.approx(mean)


def test_smoothing_keeps_a_constant_and_calms_noise() -> None:
    assert [y for _, y in smooth([(i, 3.0) for i in range(50)])] == pytest.approx([3.0] * 50)
    noisy = [y for _, y in smooth([(i, float(i % 2)) for i in range(400)])]
    assert max(noisy[50:]) - min(noisy[50:]) < 0.1


def test_lines_stay_inside_the_chart() -> None:
    drawn = chart("t", [Line("a", [(0, -3.0), (5, 9.0)]), Line("b", [(2, 100.0)], 2)])
    ys = [float(y) for path in re.findall(r'class="line-1[^>]* d="M([^"]+)"', drawn)
          for y in re.findall(r" ([\d.-]+)", path)]  # fmt: skip
    assert len(ys) == 2 and all(0 <= y <= 210 for y in ys)
    assert chart("t", [Line("a", [])]) == ""


def test_steps_are_whole_numbers() -> None:
    drawn = chart("t", [Line("a", [(1.0, 0.2), (2.0, 0.3)])])
    assert re.findall(r'"middle">([^<]+)<', drawn) == ["1", "2"]

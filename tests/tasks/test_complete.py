"""Gaps in source files: nothing lost, nothing leaked, both orders, other files, tables."""

import json
from pathlib import Path
from typing import Any

import pytest
import small

import gemkit
from gemkit.errors import DataError, TokenizerError, UsageError
from gemkit.tasks import Answer, Complete
from gemkit.text.fim import fim_ids
from gemkit.text.tokenizer import Tokenizer
from gemkit.train.packing import Example

SPECIAL = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_separator|>")
CONTEXT = 2000


@pytest.fixture(scope="module")
def fim(small_model: Path) -> Tokenizer:
    return Tokenizer.from_file(small_model)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Four files of which one names another; and what is none of its own."""
    folder = tmp_path / "tree"
    for name, text in {
        "app/sums.py": small.CODE,
        "app/report.py": f"from sums import total\n\n{small.CODE.replace('total', 'report')}",
        "lib/far.py": small.CODE.replace("total", "far"),
        "lib/page.js": "const page = [1, 2];\r\nshow(page);\r\n",
        ".hidden/a.py": "x = 1\n", "node_modules/b.js": "x = 1\n", "notes.txt": "x\n",
        "lib/empty.py": "\n", "lib/large.py": "x = 1\n" * 200_000,
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    (folder / "lib" / "again").symlink_to(folder)
    return folder


def target(tokenizer: Tokenizer, example: Example) -> str:
    pairs = zip(example.ids, example.target, strict=True)
    return tokenizer.decode([token for token, own in pairs if own], skip_special=False)


def test_the_gaps_of_a_folder(tree: Path) -> None:
    task = Complete(gaps=3)
    table = task.read(tree)
    names = ["app/report.py", "app/sums.py", "lib/far.py", "lib/page.js"]
    assert sorted({row["path"] for row in table.rows}) == names
    assert len(table.rows) == 12
    for row in table.rows:
        content = (tree / row["path"]).read_text("utf-8").replace("\r\n", "\n")
        assert row["prefix"] + row["middle"] + row["suffix"] == content
    assert {row["order"] for row in table.rows} == {"psm", "spm"}
    assert {row["kind"] for row in table.rows} == {"line", "expression", "random"}
    assert task.read(tree).rows == table.rows
    assert Complete(gaps=3, seed=1).read(tree).rows != table.rows
    (one,) = Complete(gaps=1).read(tree / "app" / "sums.py").rows
    assert one["path"] == "sums.py"


def test_files_are_held_out_whole(tree: Path) -> None:
    table = Complete().read(tree)
    train, valid = Complete().split(table, 0.2, seed=0)
    assert not {row["path"] for row in train.rows} & {row["path"] for row in valid.rows}
    assert len(train.rows) + len(valid.rows) == len(table.rows)


@pytest.mark.parametrize(("share", "order"), [(0.0, "psm"), (1.0, "spm")])
def test_an_example_is_the_format_with_the_middle_as_its_target(
    tree: Path, fim: Tokenizer, share: float, order: Any
) -> None:
    task = Complete(spm_share=share, context_files=0, gaps=2)
    table = task.read(tree)
    task = task.fitted(table)
    for row, example in zip(table.rows, task.examples(fim, table, CONTEXT), strict=True):
        prompt = fim_ids(fim, row["prefix"], row["suffix"], None, row["path"], order)
        assert example.ids[: len(prompt)] == prompt
        assert target(fim, example) == row["middle"] + SPECIAL[3]
        assert sum(example.target) == len(example.ids) - len(prompt)
        assert example.ids.count(fim.bos_id) == 1


def test_related_files_come_first_and_never_held_out_ones(tree: Path, fim: Tokenizer) -> None:
    task = Complete(gaps=1, context_files=1)
    table = task.read(tree)
    task = task.fitted(table)
    texts = {
        row["path"]: fim.decode(example.ids)
        for row, example in zip(table.rows, task.examples(fim, table, CONTEXT), strict=True)
    }
    assert texts["app/report.py"].startswith(f"app/sums.py\n{small.CODE}")
    assert texts["lib/page.js"].startswith("lib/far.py\n")
    report = table.part([n for n, row in enumerate(table.rows) if row["path"] == "app/report.py"])
    (alone,) = task.examples(fim, report, CONTEXT)
    assert fim.decode(alone.ids).startswith("app/report.py\n")


def test_a_short_context_loses_what_is_far_but_no_middle(tree: Path, fim: Tokenizer) -> None:
    task = Complete()
    table = task.read(tree)
    task = task.fitted(table)
    longest = 150
    kept = task.without_bad_rows(fim, table, longest, labelled=True)
    examples = task.examples(fim, kept, longest)
    assert max(len(example.ids) for example in examples) <= longest
    assert [target(fim, e) for e in examples] == [r["middle"] + SPECIAL[3] for r in kept.rows]
    with pytest.raises(DataError, match="the middle is .* tokens long; expected at most 4"):
        task.examples(fim, table, 8)


def test_tables_with_gaps(tmp_path: Path, fim: Tokenizer) -> None:
    """As infilling benchmarks have them; with files to read before."""
    row = {"task_id": "a", "prompt": "a = ", "suffix": "\n", "canonical_solution": "1"}
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(row) + "\n" + json.dumps({**row, "context": {"b.py": "b"}}) + "\n")
    table = Complete().read(file)
    task = Complete().fitted(table)
    first, second = (fim.decode(e.ids) for e in task.examples(fim, table, CONTEXT))
    assert (first, second) == ("a = \n1", "b.py\nba = \n1")
    assert task.shown(table)[0] == ("a = ▮\n", "1")
    assert task.split(table, 0.5, seed=0)[1].lines in ([1], [2])
    file.write_text(json.dumps({"prefix": "a", "suffix": "b"}))
    table = Complete().read(file)
    asked = Complete().found(table, labelled=False)
    assert asked.column == "completion" and len(asked.prompts(fim, table, CONTEXT)) == 1
    with pytest.raises(UsageError, match="which one is the middle"):
        asked.fitted(table)
    file.write_text(json.dumps({**row, "context": "b"}))
    with pytest.raises(DataError, match="line 1: context is no object"):
        task.examples(fim, Complete().read(file), CONTEXT)


def test_places_without_code_and_bad_files(tree: Path, tmp_path: Path, fim: Tokenizer) -> None:
    (tree / "app" / "binary.py").write_bytes(b"a\0b")
    with pytest.raises(DataError, match="binary.py is binary"):
        Complete().read(tree)
    assert [bad.reason for bad in Complete().read(tree, skip_bad_rows=True).skipped] == [
        f"{tree / 'app' / 'binary.py'} is binary: byte 1 is 0"
    ]
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no such files; expected files ending in .bash .c"):
        Complete().read(tmp_path / "none")
    with pytest.raises(DataError, match="cannot read"):
        Complete().read(tmp_path / "missing.py")


def test_a_vocabulary_without_the_markers(tree: Path, words: Tokenizer) -> None:
    table = Complete().read(tree)
    with pytest.raises(TokenizerError, match="file_separator"):
        Complete().fitted(table).examples(words, table, CONTEXT)


PLACES = [
    {"prefix": "def f():\n    ", "suffix": "\n", "middle": "return 1\n\n\ndef g():\n    pass"},
    {"prefix": "x = [1, ", "suffix": "]\nprint(x)\n", "middle": "2,\n     3"},
    {"prefix": "x = ", "suffix": "\n", "middle": "1\n"},
]


@pytest.fixture
def places(jsonl: Any) -> Path:
    return jsonl(*PLACES)  # type: ignore[no-any-return]


@pytest.mark.parametrize("lines", ["auto", "one", "many", "all"])
def test_answers_are_those_that_complete_gives(
    places: Path, small_model: Path, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is made to write the true middles, and more."""
    lm = gemkit.load(small_model)
    task = Complete(lines=lines, max_new_tokens=12)
    written: list[str] = []
    answer_ids = lm.answer_ids

    def as_told(prompts: Any, *arguments: Any, **options: Any) -> Any:
        _, _, overs = arguments
        found = []
        for number, prompt in enumerate(prompts):
            own = [overs[number]] if overs else []
            choice = [PLACES[number]["middle"] + "\n\n\nx = 3\n"]
            more = {**options, "choices": choice, "max_new_tokens": 60}
            found += answer_ids([prompt], arguments[0], None, own, **more)
            written.append(found[-1][0].text)
        return found

    monkeypatch.setattr(lm, "answer_ids", as_told)
    table = task.read(places)
    answers = [answer.text for answer in task.predict(lm, table)]
    if lines == "all":
        assert answers == [row["middle"] + "\n\n\nx = 3\n" for row in PLACES]
        return
    for row, answer, text in zip(PLACES, answers, written, strict=True):
        choice = [row["middle"] + "\n\n\nx = 3\n"]
        settings = {"lines": lines, "choices": choice, "max_new_tokens": 60}
        assert answer == lm.complete(row["prefix"], row["suffix"], **settings)
        assert len(text) < len(choice[0]) or lines == "many"  # writing stopped in time


def test_an_answer_is_judged_by_what_is_wanted_of_the_middle(places: Path) -> None:
    task = Complete().fitted(Complete().read(places))
    table = task.read(places)
    wanted = ["return 1", "2,", "1"]
    assert [truth for _, truth in task.shown(table)] == wanted
    assert task.score([Answer(text) for text in wanted], table).metrics["exact_match"] == 1
    whole = Complete(lines="all").fitted(table)
    assert [truth for _, truth in whole.shown(table)] == [row["middle"] for row in PLACES]
    with pytest.raises(UsageError, match="lines is 'two'; expected one of auto, one, many, all"):
        Complete(lines="two")


def test_programs_are_the_files_with_their_tests(jsonl: Any) -> None:
    file = jsonl(
        {"prefix": "def f():\n    ", "suffix": "\n", "middle": "return 1\nx = 1", "path": "a.py"},
        {"prefix": "a", "suffix": "b", "middle": "c", "path": "a.js"},
        {"prefix": "a = ", "suffix": "\n", "middle": "1", "test": "def check(a): 1", "entry_point":
         "a"},
    )  # fmt: skip
    task = Complete()
    table = task.read(file)
    task = task.fitted(table)
    check = "\ndef check(a): 1\ncheck(a)"
    assert task.programs(table, None) == ["def f():\n    return 1\n\n", None, f"a = 1\n{check}"]
    found = task.programs(table, [Answer("pass"), Answer(""), Answer("2")])
    assert found == ["def f():\n    pass\n\n", None, f"a = 2\n{check}"]

"""Continued training: every token once, whatever the context; files and tables."""

from pathlib import Path

import pytest

from gemkit.errors import DataError, UsageError
from gemkit.tasks import Text
from gemkit.text.tokenizer import Tokenizer
from gemkit.train.data import read_table

STORY = "".join(f"the soup was warm on day {n}\n" for n in range(20))


@pytest.mark.parametrize("longest", [2, 7, 64, 5000])
def test_no_token_is_lost(tmp_path: Path, words: Tokenizer, longest: int) -> None:
    (tmp_path / "a.txt").write_text(STORY)
    table = Text().read(tmp_path / "a.txt")
    task = Text().fitted(table)
    examples = task.examples(words, table, longest)
    learnt = [token for e in examples for token, own in zip(e.ids, e.target, strict=True) if own]
    assert learnt == words.encode(STORY, eos=True)
    for example in examples:
        assert example.ids[0] == words.bos_id and example.ids.count(words.bos_id) == 1
        assert len(example.ids) <= longest
    assert len(examples) == -(-len(learnt) // (longest - 1))


def test_folders_hold_texts_and_one_text_is_split_at_a_line(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name, text in {"b/two.md": "two\r\n", "one.txt": STORY, "c.py": "x", "d.txt": " "}.items():
        (tmp_path / name).write_bytes(text.encode())
    table = Text().read(tmp_path)
    assert [(row["path"], row["text"]) for row in table.rows] == [
        ("b/two.md", "two\n"), ("one.txt", STORY)
    ]  # fmt: skip
    task = Text().fitted(table)
    assert sorted(len(part.rows) for part in task.split(table, 0.5, seed=0)) == [1, 1]
    only = table.part([1])
    train, valid = task.split(only, 0.25, seed=0)
    first, last = train.rows[0]["text"], valid.rows[0]["text"]
    assert first + last == STORY and first.endswith("\n")
    assert 0.2 < len(last) / len(STORY) < 0.35
    with pytest.raises(UsageError, match="--valid-share is 1"):
        task.split(only, 1, seed=0)


def test_a_column_of_a_table(tmp_path: Path, words: Tokenizer) -> None:
    (tmp_path / "a.tsv").write_text("id\tcontent\n1\tfresh\n2\t\n")
    task = Text()
    table = task.read(tmp_path / "a.tsv")
    task = task.fitted(table)
    assert (task.text, task.column, task.shown(table.part([0]))) == (
        "content", "continuation", [("fresh", "")]
    )  # fmt: skip
    with pytest.raises(DataError, match="line 3: the text is empty"):
        task.examples(words, table, 9)
    kept = task.without_bad_rows(words, table, 9, labelled=True)
    assert (len(kept.rows), kept.skipped[0].line) == (1, 3)
    assert task.prompts(words, kept, 20) == [words.encode("fresh", bos=True)]
    with pytest.raises(DataError, match="the prompt is .* tokens long"):
        task.prompts(words, kept, 1)
    with pytest.raises(DataError, match="no column 'body'.*--text"):
        Text(text="body").found(read_table(tmp_path / "a.tsv"))

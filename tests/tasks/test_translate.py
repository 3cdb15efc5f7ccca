"""Translation: MTNT's file as it comes, other tables, one <bos>, the target mask, BLEU."""

from pathlib import Path

import pytest

from gemkit.errors import DataError, UsageError
from gemkit.tasks import Answer, Translate
from gemkit.text.tokenizer import Tokenizer


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_without_header_is_id_source_target(tmp_path: Path, words: Tokenizer) -> None:
    rows = '1\tthe "soup" was\t« la "soupe »\n2\tfresh\tfrais\n'
    file = write(tmp_path / "train.en-fr.tsv", rows)
    table = Translate().read(file)
    task = Translate().fitted(table)
    assert table.columns == ("id", "src", "dst") and table.lines == [1, 2]
    assert task.shown(table) == [('the "soup" was', '« la "soupe »'), ("fresh", "frais")]
    example = task.examples(words, table, 400)[1]
    assert words.decode(example.ids) == "Translate this into French:\nfresh\nfrais"
    own = [token for token, target in zip(example.ids, example.target, strict=True) if target]
    assert words.decode(own, skip_special=False) == "frais<eos>"
    assert example.ids.count(words.bos_id) == 1 and example.ids[0] == words.bos_id


def test_bad_rows_of_such_a_file_have_its_lines(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tsv", "1\ta\tb\n2\ta\n3\tc\td\n")
    with pytest.raises(DataError, match="a.tsv line 2: 2 fields"):
        Translate().read(file)
    table = Translate().read(file, skip_bad_rows=True)
    assert (table.lines, table.skipped[0].line) == ([1, 3], 2)


def test_more_columns_without_header(tmp_path: Path) -> None:
    table = Translate().read(write(tmp_path / "a.tsv", "7\ta\tb\tt3_x\n"))
    assert table.columns == ("id", "src", "dst", "column4")


def test_headers_are_headers(tmp_path: Path, words: Tokenizer) -> None:
    table = Translate().read(write(tmp_path / "a.tsv", "id\ten\tfr\n1\ta\tb\n"))
    assert Translate().fitted(table).shown(table) == [("a", "b")]
    table = Translate().read(write(tmp_path / "a.csv", "1,x,y\n1,a,b\n"))
    task = Translate(source="x", target="y", language="German", template="chat").fitted(table)
    (example,) = task.examples(words, table, 400)
    assert words.decode(example.ids).startswith("user\nTranslate this into German:\na")
    assert example.ids[-1] == words.end_of_turn_id
    asked = Translate().found(Translate().read(write(tmp_path / "b.csv", "source\na\n")), False)
    assert (asked.source, asked.column) == ("source", "target")


def test_columns_that_cannot_be(tmp_path: Path) -> None:
    table = Translate().read(write(tmp_path / "a.csv", "x,y\na,b\n"))
    for task, error, said in (
        (Translate(), UsageError, "which one is the source; pass --source"),
        (Translate(source="x"), UsageError, "which one is the target"),
        (Translate(source="z", target="y"), DataError, "no column 'z'.*--source"),
        (Translate(source="x", target="x"), UsageError, "both source and target"),
    ):
        with pytest.raises(error, match=said):
            task.fitted(table)


def test_answers_are_scored_by_bleu_and_chrf(tmp_path: Path) -> None:
    rows = "1\ta\tla soupe est chaude ce soir\n2\tb\tle pain est frais\n"
    table = Translate().read(write(tmp_path / "a.tsv", rows))
    task = Translate().fitted(table)
    right = [Answer(target) for _, target in task.shown(table)]
    assert task.score(right, table).metrics == {"bleu": 100.0, "chrf": 100.0}
    wrong = task.score([Answer("la soupe est froide"), Answer("")], table).metrics
    assert 0 < wrong["bleu"] < wrong["chrf"] < 60

"""generate, complete, choose: what is printed and what is written into files."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import small

import gemkit
from gemkit.cli import commands_text

PROMPTS = ["The warm soup", "The cold tea at"]


@pytest.fixture(scope="module")
def lm(small_model: Path) -> gemkit.LanguageModel:
    return gemkit.load(small_model)


def test_generate_prints_what_the_library_gives(call: Any, small_model: Path, lm: Any) -> None:
    answer = lm.generate(PROMPTS[0], max_new_tokens=9)
    assert answer
    done = call("generate", small_model, PROMPTS[0], "--max-new-tokens", 9)
    assert done == (0, f"{answer}\n", "")
    echoed = call("generate", small_model, PROMPTS[0], "--max-length", 9, "--echo")
    assert echoed.out == lm.generate(PROMPTS[0], max_length=9, echo=True) + "\n"


def test_generate_passes_every_setting_on(call: Any, small_model: Path, lm: Any) -> None:
    settings = {
        "max_new_tokens": 9, "temperature": 1.5, "top_k": 40, "top_p": 0.9, "min_p": 0.01,
        "repetition_penalty": 1.2, "presence_penalty": 0.1, "frequency_penalty": 0.1, "seed": 3,
    }  # fmt: skip
    flags = [x for key, value in settings.items() for x in (f"--{key.replace('_', '-')}", value)]
    flags += ["--logit-bias", " soup=2.5", "--logit-bias", "291=-3", "--force", " is"]
    done = call("generate", small_model, PROMPTS[0], *flags)
    settings |= {"logit_bias": {" soup": 2.5, 291: -3.0}, "forced": " is"}
    answer = lm.generate(PROMPTS[0], **settings)
    assert done.out == f"{answer}\n"
    assert answer != lm.generate(PROMPTS[0], max_new_tokens=9)
    stop = answer[3:6]
    stopped = call("generate", small_model, PROMPTS[0], *flags, "--stop", "☃", "--stop", stop)
    assert stopped.out == answer[: answer.index(stop)] + "\n"


def test_several_prompts_are_one_batch_printed_apart(
    call: Any, small_model: Path, lm: Any
) -> None:
    one, two = lm.generate(PROMPTS, max_new_tokens=9)
    done = call("generate", small_model, *PROMPTS, "--max-new-tokens", 9)
    assert done.out == f"[1]\n{one}\n\n[2]\n{two}\n"
    found = json.loads(call("generate", small_model, *PROMPTS, "--max-new-tokens", 9, "--json").out)
    replies = [row[0] for row in lm.answers(PROMPTS, max_new_tokens=9)]
    for each, prompt, answer, reply in zip(found, PROMPTS, (one, two), replies, strict=True):
        assert (each["prompt"], each["answer"], each["ended"]) == (prompt, answer, "limit")
        assert [token["id"] for token in each["tokens"]] == [*reply.ids]
        assert [token["text"] for token in each["tokens"]] == [*reply.tokens]
        log_probs = [token["log_prob"] for token in each["tokens"]]
        assert log_probs == pytest.approx(reply.log_probs, abs=1e-4)


def test_several_answers(call: Any, small_model: Path, lm: Any) -> None:
    flags = ["--max-new-tokens", 9, "--temperature", 1.5, "--seed", 5, "--n", 2]
    settings = {"max_new_tokens": 9, "temperature": 1.5, "seed": 5, "n": 2}
    one, two = lm.generate(PROMPTS[0], **settings)
    assert call("generate", small_model, PROMPTS[0], *flags).out == f"[1]\n{one}\n\n[2]\n{two}\n"
    found = json.loads(call("generate", small_model, *PROMPTS, *flags, "--json").out)
    assert [each["prompt"] for each in found] == [PROMPTS[0]] * 2 + [PROMPTS[1]] * 2
    assert [each["answer"] for each in found[:2]] == [one, two]
    beams = ["--max-new-tokens", 5, "--beams", 4]
    done = call("generate", small_model, PROMPTS[0], *beams)
    assert done.out == lm.generate(PROMPTS[0], max_new_tokens=5, beams=4) + "\n"


def test_answers_of_a_given_form(call: Any, small_model: Path, tmp_path: Path) -> None:
    run = ("generate", small_model, PROMPTS[0], "--max-new-tokens", 40)
    assert call(*run, "--choice", "good", "--choice", "bad").out in ("good\n", "bad\n")
    assert call(*run, "--regex", "[0-9]-[0-9]").out[1] == "-"
    schema = '{"type": "object", "properties": {"a": {"const": 5}}, "required": ["a"]}'
    (tmp_path / "schema.json").write_text(schema)
    for given in (schema, tmp_path / "schema.json"):
        assert json.loads(call(*run, "--json-schema", given).out)["a"] == 5
    assert "o" not in call(*run, "--ban", "o", "--ban", "e", "--regex", "[a-z]{9}").out


def test_an_answer_of_nothing_is_remarked(call: Any, small_model: Path, lm: Any) -> None:
    """As when a stop string of one space comes first, for a model writes a space before a word."""
    flags = ("--max-new-tokens", 5, "--force", " soup", "--stop", " ")
    for more in ((), (PROMPTS[1],)):
        done = call("generate", small_model, PROMPTS[0], *more, *flags)
        assert done.code == 0 and done.out.replace("\n", "") in ("", "[1][2]")
        said = "the answer is empty: it ended at once, or with a --stop text before any other\n"
        assert done.err == said * (1 + len(more))


def test_a_smaller_cache(call: Any, fails: Any, small_model: Path) -> None:
    done = call("generate", small_model, PROMPTS[0], "--max-new-tokens", 5, "--cache-dtype", "int8")
    answer = gemkit.load(small_model, cache_dtype="int8").generate(PROMPTS[0], max_new_tokens=5)
    assert done == (0, f"{answer}\n", "")
    for command in (["generate", small_model, "a"], ["chat", small_model], ["explain", small_model,
                    "-"], ["complete", small_model, "a.py:1"]):  # fmt: skip
        fails(call(*command, "--cache-dtype", "int4"), "Invalid value for '--cache-dtype'", 2)


def test_a_prompt_from_standard_input(call: Any, fails: Any, small_model: Path, lm: Any) -> None:
    answer = lm.generate("국수\n is", max_new_tokens=5)
    given = "국수\n is\n".encode()
    done = call("generate", small_model, "-", "--max-new-tokens", 5, stdin=given)
    assert done.out == f"{answer}\n"
    fails(call("generate", small_model, "-", stdin=b"ab\xff"), "byte 2 of standard input")
    fails(call("generate", small_model, "-"), "the prompt is empty")


def test_special_pieces_are_text_unless_asked_for(call: Any, small_model: Path, lm: Any) -> None:
    plain, parsed = (
        lm.generate("<start_of_turn>user", max_new_tokens=9, parse_special=asked)
        for asked in (False, True)
    )
    assert plain != parsed
    flags = ("--max-new-tokens", 9)
    assert call("generate", small_model, "<start_of_turn>user", *flags).out == f"{plain}\n"
    done = call("generate", small_model, "<start_of_turn>user", *flags, "--parse-special")
    assert done.out == f"{parsed}\n"


@pytest.mark.parametrize(
    ("flags", "said", "code"),
    [
        (["--temperature", -1], "temperature is -1.0; expected a number of at least 0", 2),
        (["--top-p", 2], "top_p is 2.0", 2),
        (["--top-k", 0], "top_k is 0", 2),
        (["--seed", -1], "seed is -1", 2),
        (["--max-new-tokens", 0], "max_new_tokens is 0", 2),
        (["--max-new-tokens", 1, "--max-length", 9], "both max_new_tokens and max_length", 2),
        (["--max-length", 2], "max_length is 2; expected a longer max_length", 1),
        (["--stop", ""], "a stop string is empty", 2),
        (["--n", 2], "n is 2 and temperature 0; expected a temperature above 0, or beams", 2),
        (["--n", 3, "--best-of", 2, "--temperature", 1], "n is 3 and best_of 2", 2),
        (["--beams", 2, "--temperature", 1], "both beams and temperature are given", 2),
        (["--regex", "["], "the regular expression '[': unclosed character class", 2),
        (["--regex", "a", "--choice", "b"], "both choices and regex are given", 2),
        (["--choice", "b", "--choice", ""], "the choices are ('b', '')", 2),
        (["--json-schema", "{"], "the JSON schema is invalid", 2),
        (["--json-schema", '{"type": "strange"}'], "the JSON schema", 2),
        (["--json-schema", "none.json"], "cannot read none.json: No such file", 1),
        (["--ban", "a", "--force", "ab"], "the answer must begin with 'ab', which holds 'a'", 2),
        (["--ban", ""], "a banned text is empty", 2),
        (["--logit-bias", "a"], "--logit-bias is 'a'; expected TOKEN=BIAS", 2),
        (["--logit-bias", "5=x"], "--logit-bias is '5=x'; expected TOKEN=BIAS", 2),
        (["--logit-bias", " warm soup=1"], "tokens; expected one token; give its ids", 2),
        (["--logit-bias", "640=1"], "logit_bias holds token 640; expected 0 to 639", 2),
        (["--dtype", "int3"], "dtype is int3", 2),
    ],
)
def test_settings_out_of_range(
    call: Any, fails: Any, small_model: Path, flags: list[Any], said: str, code: int
) -> None:
    fails(call("generate", small_model, "The warm soup", *flags), said, code)


def test_a_prompt_longer_than_the_context(call: Any, fails: Any, small_model: Path) -> None:
    prompt = "The warm soup. " * small.CONTEXT
    for arguments in (["generate", small_model, prompt], ["choose", small_model, prompt, "--choice",
                      "a", "--choice", "b"]):  # fmt: skip
        fails(call(*arguments), f"{small.CONTEXT}, the model's context; shorten it")


def test_control_characters_reach_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a\x1b[2Jb\x07\x9bc\r\nd\té"
    assert commands_text.visible(text) == text
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert commands_text.visible(text) == "a�[2Jb��c�\nd\té"


def test_complete_prints_the_middle_only(call: Any, small_model: Path, lm: Any) -> None:
    settings = {"max_new_tokens": 9, "repetition_penalty": 50.0}
    middle = lm.complete("def a():\n    ", "\n\nb()", **settings)
    assert middle
    flags = ["--prefix", "def a():\n    ", "--suffix", "\n\nb()", "--max-new-tokens", 9]
    flags += ["--repetition-penalty", 50]
    assert call("complete", small_model, *flags) == (0, middle, "")
    assert json.loads(call("complete", small_model, *flags, "--json").out) == {"middle": middle}


@pytest.mark.parametrize(
    ("place", "said", "code"),
    [
        ("a.py:0", "line 0 of", 2),
        ("a.py:4", "1 to 3, the lines it has", 2),
        ("a.py:2:9", "column 9 of a.py line 2; expected 1 to 6, just after its end", 2),
        ("a.py:2:0", "column 0", 2),
        ("b.py:1", "cannot read b.py: No such file or directory", 1),
        (".:1", "cannot read .: Is a directory", 1),
        ("latin.py:1", "latin.py is not UTF-8: byte 0 is 0xe9", 1),
        ("odd.py:1", "odd.py declares the encoding nonsense", 1),
        ("binary.py:1", "binary.py is binary: byte 3 is 0", 1),
        ("a.py", "the place is 'a.py'; expected FILE:LINE or FILE:LINE:COL", 2),
    ],
)
def test_places_that_are_not_there(
    call: Any, fails: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, said: str,
    code: int,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("one\ntwo 둘\n", encoding="utf-8")
    (tmp_path / "latin.py").write_bytes("é".encode("latin-1"))
    (tmp_path / "odd.py").write_bytes(b"# coding: nonsense\n")
    (tmp_path / "binary.py").write_bytes(b"abc\0")
    fails(call("complete", "no model", place), said, code)


@pytest.mark.parametrize(
    ("content", "end"),
    [
        (b"def a():\n    \n\nb()\n", "\n"),
        ("def é():\r\n    \r\n\r\nb()\r\n".encode("utf-8-sig"), "\r\n"),
        ("# coding: latin-1\ndef é():\n    \n".encode("latin-1"), "\n"),
    ],
    ids=["plain", "crlf and byte order mark", "latin-1"],
)
def test_in_place_changes_nothing_but_the_place(
    call: Any, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes,
    end: str,
) -> None:  # fmt: skip
    asked = {}

    def complete(self: Any, prefix: str, suffix: str, **settings: Any) -> str:
        asked.update(prefix=prefix, suffix=suffix, **settings)
        return "x = 1\n    y = 2"

    monkeypatch.setattr(gemkit.LanguageModel, "complete", complete)
    file, other = tmp_path / "a.py", tmp_path / "other.py"
    file.write_bytes(content)
    file.chmod(0o755)
    other.write_bytes(b"c = 3\r\n")
    line = content.decode("latin-1").split("\n").index("    " + end.removesuffix("\n")) + 1
    done = call("complete", small_model, f"{file}:{line}", "--context", other, "--in-place")
    assert (done.code, done.out) == (0, "x = 1\n    y = 2")
    assert done.err == f"{file}: 15 characters added\n"
    new = f"    x = 1{end}    y = 2{end}".encode()
    assert file.read_bytes() == content.replace(f"    {end}".encode(), new, 1)
    assert file.stat().st_mode & 0o777 == 0o755
    assert "\r" not in asked["prefix"] + asked["suffix"] and "\ufeff" not in asked["prefix"]
    # Files are named by their place in the project; these are outside it.
    assert (asked["context"], asked["path"]) == ({"other.py": "c = 3\n"}, "a.py")
    assert sorted(os.listdir(tmp_path)) == ["a.py", "other.py"]


def test_a_middle_that_the_encoding_lacks_changes_nothing(
    call: Any, fails: Any, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gemkit.LanguageModel, "complete", lambda *_, **__: "국수")
    file = tmp_path / "a.py"
    file.write_bytes(b"# coding: latin-1\n")
    said = f"{file} is iso-8859-1 and cannot hold '국'"
    fails(call("complete", small_model, f"{file}:2", "--in-place"), said)
    assert file.read_bytes() == b"# coding: latin-1\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "no place; expected FILE:LINE[:COL], or --prefix and --suffix"),
        (["a.py:1", "--prefix", "x"], "both a file and --prefix or --suffix"),
        (["--prefix", "x", "--in-place"], "--in-place without a file"),
        (["--prefix", "x", "--lines", "two"], "Invalid value for '--lines'"),
        (["--prefix", "x", "--order", "pms"], "Invalid value for '--order'"),
        (["--prefix", "x", "--max-new-tokens", 0], "max_new_tokens is 0; expected at least 1"),
        (["--prefix", "x", "--max-new-tokens", small.CONTEXT], "expected fewer than 128"),
        (["--prefix", "x", "--stop", ""], "a stop string is empty"),
    ],
)
def test_complete_used_wrongly(
    call: Any, fails: Any, small_model: Path, flags: list[Any], said: str
) -> None:
    fails(call("complete", small_model, *flags), said, 2)


def test_nothing_to_complete(call: Any, fails: Any, small_model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"")
    for arguments in (["--prefix", ""], [f"{tmp_path / 'a.py'}:1"]):
        fails(call("complete", small_model, *arguments), "the text around the gap is empty")


def test_text_that_is_no_unicode(call: Any, fails: Any, small_model: Path) -> None:
    """As bytes that are not UTF-8 arrive in arguments."""
    for arguments in (
        ["complete", small_model, "--prefix", "a\udcff"], ["generate", small_model, "a\udcff"],
        ["choose", small_model, "a", "--choice", "b", "--choice", "\udcff"],
    ):  # fmt: skip
        fails(call(*arguments), "is the lone surrogate U+DCFF")


def test_lines_and_order_reach_the_model(
    call: Any, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        gemkit.LanguageModel, "complete", lambda *_, **settings: asked.update(settings) or "x"
    )
    flags = ["--prefix", "a", "--lines", "many", "--order", "spm", "--stop", "b"]
    assert call("complete", small_model, *flags).code == 0
    assert asked == {
        "context": None, "path": None, "lines": "many", "order": "spm", "stop": ("b",)
    }  # fmt: skip


def test_choose(call: Any, small_model: Path, lm: Any) -> None:
    choices = ["good", "good enough", "bad"]
    flags = [flag for choice in choices for flag in ("--choice", choice)]
    found = json.loads(call("choose", small_model, "Is it?", *flags, "--json").out)
    expected = lm.choose("Is it?", choices)
    assert found["choice"] == expected.choice and found["choices"] == choices
    assert found["probabilities"] == pytest.approx(expected.probabilities)
    assert math.isclose(sum(found["probabilities"]), 1)
    lines = call("choose", small_model, "Is it?", *flags).out.splitlines()
    assert lines[0].split(maxsplit=1) == [f"{max(expected.probabilities):.4f}", expected.choice]
    assert {line.split(maxsplit=1)[1] for line in lines} == set(choices)


def test_choose_normalised_and_calibrated(call: Any, small_model: Path, lm: Any) -> None:
    choices = ["good", "cold tea"]
    flags = ["--choice", choices[0], "--choice", choices[1], "--json"]
    for more, settings in (
        (["--normalize", "mean"], {"normalize": "mean"}),
        (["--calibrate", "N/A"], {"calibrate": "N/A"}),
    ):
        found = json.loads(call("choose", small_model, "Is it?", *flags, *more).out)
        expected = lm.choose("Is it?", choices, **settings)
        assert found["probabilities"] == pytest.approx(expected.probabilities)
        assert expected != lm.choose("Is it?", choices)


@pytest.mark.parametrize("choices", [[], ["a"], ["a", "a"], ["a", ""]])
def test_choices_that_are_none(call: Any, fails: Any, small_model: Path, choices: Any) -> None:
    flags = [flag for choice in choices for flag in ("--choice", choice)]
    fails(call("choose", small_model, "Is it?", *flags), "expected two or more, different", 2)


def test_the_program_streams_to_a_pipe(program: Any, small_model: Path, lm: Any) -> None:
    done = program("generate", small_model, PROMPTS[0], "--max-new-tokens", 9)
    assert done == (0, lm.generate(PROMPTS[0], max_new_tokens=9) + "\n", "")

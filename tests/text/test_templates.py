"""Prompt templates: every row of the table, missing values, braces."""

import doctest

import pytest

from gemkit.errors import UsageError
from gemkit.text import source_file, templates, transcript
from gemkit.text.templates import TEMPLATES, Template, explain_prompt

RENDERED = {
    "instruct": "Instruction:\n<instruction>\n\nResponse:\n",
    "instruct_context": "Instruction:\n<instruction>\n\nContext:\n<context>\n\nResponse:\n",
    "question": "<instruction>\n",
    "question_context": "<instruction>\n\n<context>\n",
    "translate": "Translate this into French:\n<source>\n",
    "classify": "<text>\nLabel:\n",
    "explain": (
        "Explain this code to a beginner. Answer in English, as Markdown with\n"
        "- a title that says what the code does,\n"
        "- what happens step by step, each step with the lines it is about,\n"
        "- the output to expect when it runs, in a code block.\n\n"
        "```\n<code>\n```\n"
    ),
    "classify_labels": "Classify the text as one of: <labels>.\n\nText:\n<text>\n\nLabel:\n",
}


def test_the_table_is_whole():
    assert set(TEMPLATES) == set(RENDERED)


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_template(name):
    template = TEMPLATES[name]
    values = {field: f"<{field}>" for field in template.fields if field not in template.defaults}
    assert template.render(**values) == RENDERED[name]
    for field in values:
        with pytest.raises(UsageError, match=f"no value for {field}"):
            template.render(**{**values, field: None})


@pytest.mark.parametrize("name", TEMPLATES)
def test_prompt_and_answer_can_be_encoded_apart(codegemma, name):
    prompt = TEMPLATES[name].render(**{field: "x {y}" for field in TEMPLATES[name].fields})
    for answer in ("긍정", "positive", "neg", " 1"):
        assert codegemma.encode(prompt) + codegemma.encode(answer) == codegemma.encode(
            prompt + answer
        )


def test_a_default_gives_way():
    text = TEMPLATES["translate"].render(source="Good {day}", language="Korean", id="7")
    assert text == "Translate this into Korean:\nGood {day}\n"


def test_literal_braces_and_repeated_fields():
    template = Template("{{{a}}} {b} {a}")
    assert template.fields == ("a", "b")
    assert template.render(a="{b}", b="{}") == "{{b}} {} {b}"


@pytest.mark.parametrize("text", ["{", "}", "{}", "{0}", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}"])
def test_only_plain_names_are_fields(text):
    with pytest.raises(UsageError, match="template"):
        Template(text)


def test_code_cannot_end_its_own_fence():
    code = 'print("""\n```\n````\n""")\n'
    assert explain_prompt(code, "한국어").endswith(f"`````\n{code}`````\n")
    assert "Answer in 한국어," in explain_prompt(code, "한국어")


@pytest.mark.parametrize("module", [templates, source_file, transcript])
def test_examples_in_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0

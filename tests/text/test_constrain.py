"""Constraints: every walk along the masks ends in a text of the form that was asked for."""

import json
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gemkit.errors import GenerationError, TokenizerError, UsageError
from gemkit.text.constrain import Constraint, Constraints
from gemkit.text.tokenizer import Tokenizer

Make = Callable[[Constraints], Constraint]

CHOICES = ["yes", "yes, sir", "no", 'a "quoted" \\ word\n', "naïve 😀", "<end_of_turn>"]
DATE = r"(19|20)[0-9]{2}-(0[1-9]|1[0-2])-[0-3][0-9]"
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["a", "b c"]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer(gemma3: Tokenizer) -> Tokenizer:
    return gemma3


@pytest.fixture(scope="module")
def constraints(tokenizer: Tokenizer) -> Constraints:
    return Constraints(tokenizer)


def walk(constraint: Constraint, ends: set[int], seed: int, limit: int = 200) -> list[int]:
    """An answer made of random allowed tokens, without its end."""
    picker, answer = random.Random(seed), []
    for _ in range(limit):
        token = picker.choice(np.flatnonzero(constraint.allowed()).tolist())
        constraint.accept(token)
        if token in ends:
            return answer
        answer.append(token)
    raise AssertionError(f"no end after {limit} tokens")


def ends_of(tokenizer: Tokenizer) -> set[int]:
    assert tokenizer.end_of_turn_id is not None
    return {tokenizer.eos_id, tokenizer.end_of_turn_id}


def is_person(text: str) -> bool:
    value = json.loads(text)
    return (
        text == json.dumps(value, ensure_ascii=False)
        and {"name", "age"} <= set(value) <= set(SCHEMA["properties"])  # type: ignore[call-overload]
        and len(value["name"]) <= 6
        and 0 <= value["age"] <= 130
        and all(tag in ("a", "b c") for tag in value.get("tags", []))
    )


@pytest.mark.parametrize("make, fits", [
    (lambda c: c.choices(CHOICES), lambda text: text in CHOICES),
    (lambda c: c.regex(DATE), re.compile(DATE).fullmatch),
    (lambda c: c.regex("[^a-z]{0,5}|ä+😀{2}b?"), re.compile("(?s)[^a-z]{0,5}|ä+😀{2}b?").fullmatch),
], ids=["choices", "date", "characters"])  # fmt: skip
def test_every_walk_fits(
    make: Make, fits: Callable[[str], Any], constraints: Constraints, tokenizer: Tokenizer
) -> None:
    start, ends = make(constraints), ends_of(tokenizer)
    texts = {tokenizer.decode(walk(start.copy(), ends, seed)) for seed in range(60)}
    assert [text for text in texts if not fits(text)] == []
    assert len(texts) > 4


def test_json_fits_its_schema(constraints: Constraints, tokenizer: Tokenizer) -> None:
    start, ends = constraints.json_schema(SCHEMA), ends_of(tokenizer)
    as_text = constraints.json_schema(json.dumps(SCHEMA))
    assert np.array_equal(start.allowed(), as_text.allowed())
    for seed in range(30):
        text = tokenizer.decode(walk(start.copy(), ends, seed))
        # A control character may stand escaped or, as DEL, plain; either way it is one string.
        assert is_person(json.dumps(json.loads(text), ensure_ascii=False)), text
        assert not text.startswith((" ", "{ ")) and "\n" not in text
    for text in ('{"name": "Ada", "age": 36}', '{"name": "", "age": 0, "tags": ["b c", "a"]}'):
        assert is_person(text)
        assert accepts(start.copy(), tokenizer.encode(text))
    for text in ('{"name": "Ada"}', '{"name": "Ada", "age": 131}', '{"age": 3, "name": "A"}', "[]"):
        assert not accepts(start.copy(), tokenizer.encode(text))


def accepts(constraint: Constraint, tokens: list[int]) -> bool:
    """Whether the tokens are a whole answer."""
    for token in tokens:
        allowed = bool(constraint.allowed()[token])
        try:
            constraint.accept(token)
        except GenerationError:
            assert not allowed
            return False
    return constraint.complete


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_is_taken_as_the_tokenizer_spells_it(
    choice: str, constraints: Constraints, tokenizer: Tokenizer
) -> None:
    constraint = constraints.choices(CHOICES)
    for token in tokenizer.encode(choice):
        assert constraint.allowed()[token]
        constraint.accept(token)
    assert constraint.complete
    assert not accepts(constraints.choices(CHOICES), tokenizer.encode(choice + "!"))
    assert not accepts(constraints.choices(CHOICES), tokenizer.encode(choice[:-1]))


def test_other_spellings_are_accepted_too(constraints: Constraints, tokenizer: Tokenizer) -> None:
    """The mask leaves them out where the bytes that follow are certain."""
    spelt = [token for char in "yes" for token in tokenizer.encode(char)]
    assert len(tokenizer.encode("yes")) < len(spelt)
    constraint = constraints.choices(["yes"])
    constraint.accept(spelt[0])
    assert not constraint.allowed()[spelt[1]]
    constraint.accept(spelt[1])
    assert accepts(constraint, spelt[2:])


def test_masks_hold_only_starts_of_choices(constraints: Constraints, tokenizer: Tokenizer) -> None:
    wanted = [choice.encode() for choice in CHOICES]
    for choice in CHOICES:
        constraint, text = constraints.choices(CHOICES), b""
        for token in tokenizer.encode(choice):
            for other in np.flatnonzero(constraint.allowed()):
                if int(other) in ends_of(tokenizer):
                    assert text in wanted
                else:
                    longer = text + tokenizer.token_bytes(int(other))
                    assert longer != text and any(one.startswith(longer) for one in wanted)
            constraint.accept(token)
            text += tokenizer.token_bytes(token)


def test_the_end_and_other_special_tokens(constraints: Constraints, tokenizer: Tokenizer) -> None:
    ends, special = ends_of(tokenizer), tokenizer.special_ids
    constraint = constraints.regex("e(ae)?")
    assert not constraint.complete and not constraint.finished
    assert not constraint.allowed()[list(special)].any()
    for end in ends:
        with pytest.raises(GenerationError, match=f"token {end} does not fit .* after 0 tokens"):
            constraint.accept(end)
    constraint.accept(tokenizer.token_to_id("e"))
    assert constraint.complete and not constraint.finished
    assert set(np.flatnonzero(constraint.allowed())) & special == ends
    longer = constraint.copy()
    longer.accept(tokenizer.token_to_id("a"))
    longer.accept(tokenizer.token_to_id("e"))
    assert longer.complete and longer.finished
    assert set(np.flatnonzero(longer.allowed())) == ends
    # The copy went its own way.
    assert not constraint.finished
    constraint.accept(tokenizer.eos_id)
    assert constraint.finished and not constraint.allowed().any()
    with pytest.raises(GenerationError, match="does not fit .* after 2 tokens"):
        constraint.accept(tokenizer.eos_id)


def test_after_is_accept_and_allowed(constraints: Constraints, tokenizer: Tokenizer) -> None:
    """Going on, going back, another answer, the end: the mask is that of the tokens."""
    word = tokenizer.encode("2024-07-31")
    other = tokenizer.encode("1999-1")
    constraint = constraints.regex(DATE)
    for answer in (word[:1], word[:2], word, [*word, tokenizer.eos_id], word[:1], other, []):
        fresh = constraints.regex(DATE)
        for token in answer:
            fresh.accept(token)
        assert np.array_equal(constraint.after(answer), fresh.allowed())
        with pytest.raises(GenerationError, match=f"after {len(answer)} tokens"):
            constraint.accept(tokenizer.bos_id)


def test_a_model_with_more_or_fewer_tokens(tokenizer: Tokenizer) -> None:
    whole = Constraints(tokenizer).regex(".*").allowed()
    assert whole.shape == (tokenizer.vocab_size,) and whole.dtype == bool
    more = Constraints(tokenizer, size=tokenizer.vocab_size + 50).regex(".*").allowed()
    assert more[: len(whole)].tolist() == whole.tolist() and not more[len(whole) :].any()
    fewer = Constraints(tokenizer, size=500).regex(".*").allowed()
    assert fewer.tolist() == whole[:500].tolist()


def test_ends_of_the_callers_choice(tokenizer: Tokenizer) -> None:
    constraint = Constraints(tokenizer, [tokenizer.eos_id]).regex("x?")
    assert constraint.allowed()[tokenizer.eos_id]
    assert not constraint.allowed()[tokenizer.end_of_turn_id]


@pytest.mark.parametrize("make, message", [
    (lambda c: c.regex("[a-z"), "the regular expression '[a-z': unclosed character class"),
    (lambda c: c.regex("(?=x)y"), "'(?=x)y': look-around, including look-ahead"),
    (lambda c: c.regex(r"a\b"), "lookarounds not supported yet"),
    (lambda c: c.regex(r"(a)\1"), "backreferences are not supported"),
    (lambda c: c.regex(r"a[^\x00-\U0010FFFF]"), "nothing matches the regular expression 'a[^"),
    (lambda c: c.json_schema("{nope"), "the JSON schema is invalid: Expecting property name"),
    (lambda c: c.json_schema({"enum": {1}}), "the JSON schema is invalid: Object of type set"),
    (lambda c: c.json_schema("true"), "the JSON schema is true; expected an object"),
    (lambda c: c.json_schema({"type": "objec"}), "the JSON schema: Invalid type: objec"),
    (lambda c: c.json_schema({"not": {}}), 'the JSON schema: Unimplemented keys: ["not"]'),
    (lambda c: c.json_schema({"type": "string", "minLength": 5, "maxLength": 2}),
     "Unsatisfiable schema: minLength (5) is greater than maxLength (2)"),
    (lambda c: c.json_schema({"type": "string", "pattern": "[a"}), "unclosed character class"),
    (lambda c: c.json_schema({"$ref": "http://x"}), "Resource 'http://x' is not present"),
    (lambda c: c.choices([]), "the choices are []; expected a list of strings, none empty"),
    (lambda c: c.choices(["a", ""]), "the choices are ['a', '']"),
    (lambda c: c.choices("abc"), "the choices are 'abc'"),
])  # fmt: skip
def test_wrong_grammars(make: Make, message: str, constraints: Constraints) -> None:
    with pytest.raises(UsageError) as caught:
        make(constraints)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_choice_that_is_no_text(constraints: Constraints) -> None:
    with pytest.raises(TokenizerError, match="lone surrogate"):
        constraints.choices(["fine", "\ud800"])

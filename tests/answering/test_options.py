"""Options: what contradicts what, and how words become tokens."""

from typing import Any

import pytest
from toy_vocabulary import small_vocabulary

from gemkit.answering.options import Options, make_options
from gemkit.errors import UsageError
from gemkit.generate.sampling import Sampling

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"max_new_tokens": 5, "max_length": 9}, "both max_new_tokens and max_length are given"),
    ({"max_new_tokens": 0}, "max_new_tokens is 0; expected at least 1"),
    ({"n": 0}, "n is 0; expected at least 1"),
    ({"n": 2}, "n is 2 and temperature 0; expected a temperature above 0, or beams"),
    ({"best_of": 2}, "best_of is 2 and temperature 0"),
    ({"n": 3, "best_of": 2, "temperature": 1.0}, "n is 3 and best_of 2; expected best_of of at"),
    ({"n": 3, "beams": 2}, "n is 3 and beams 2; expected beams of at least n"),
    ({"beams": 2, "temperature": 1.0}, "both beams and temperature are given"),
    ({"beams": 2, "banned": "a"}, "both beams and banned are given"),
    ({"beams": 2, "regex": "a"}, "both beams and regex are given"),
    ({"beams": 2, "frequency_penalty": 0.1}, "both beams and frequency_penalty are given"),
    ({"regex": "a", "json_schema": "{}"}, "both regex and json_schema are given"),
    ({"choices": ["a"], "regex": "a"}, "both choices and regex are given"),
    ({"stop": ["a", ""]}, "a stop string is empty; expected some text in each"),
    ({"presence_penalty": float("inf")}, "presence_penalty is inf"),
    ({"tempreature": 1.0}, "no option 'tempreature'; .*; did you mean temperature?"),
    ({"window": 1.0}, "no option 'window'; expected a field of Options$"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_options_that_cannot_be(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_options(given)


def test_one_string_is_like_a_list_of_it() -> None:
    one, many = Options(stop="ab", banned="cd"), Options(stop=["ab"], banned=["cd", 7])
    assert one.stops == many.stops == ("ab",)
    assert one.banned_texts == many.banned_texts == ("cd",)
    assert Options(n=2, best_of=5, temperature=1.0).answers == 5


def test_words_become_tokens() -> None:
    words = small_vocabulary()
    soup, turn = words.encode(" soup"), words.token_to_id("<end_of_turn>")
    assert len(soup) == 1
    bias = {" soup": 2.5, "<end_of_turn>": -1, 9: 0.5}
    found = Options(
        temperature=0.5, seed=3, logit_bias=bias, banned=["a text", 11], forced=" soup was"
    ).sampling(words)
    assert found == Sampling(
        temperature=0.5, seed=3, logit_bias={soup[0]: 2.5, turn: -1, 9: 0.5}, banned=(11,),
        forced=tuple(words.encode(" soup was")),
    )  # fmt: skip
    assert Options().sampling(words) == Sampling()
    with pytest.raises(UsageError, match="' soup was', which is 2 tokens; expected one token"):
        Options(logit_bias={" soup was": 1.0}).sampling(words)
    with pytest.raises(UsageError, match="'', which is 0 tokens; expected one token"):
        Options(logit_bias={"": 1.0}).sampling(words)

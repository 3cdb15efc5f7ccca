"""A conversation's oldest turns give way."""

import pytest

from gemkit.errors import UsageError
from gemkit.text.chat import chat_ids
from gemkit.text.history import recent_turns

SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = [
    {"role": role, "content": f"{role} {number}"}
    for number in range(5)
    for role in ("user", "assistant")
]
LAST = {"role": "user", "content": "And now?"}


@pytest.mark.parametrize("head", [[], [SYSTEM]])
def test_whole_turns_go_oldest_first(codegemma, head):
    messages = [*head, *TURNS, LAST]
    seen = set()
    for budget in range(len(chat_ids(codegemma, messages)[0]) + 1):
        kept = recent_turns(codegemma, messages, budget)
        count = len(kept) - len(head) - 1
        assert kept == [*head, *TURNS[len(TURNS) - count :], LAST] and count % 2 == 0
        seen.add(count)
        if count:
            assert len(chat_ids(codegemma, kept)[0]) <= budget
        if count < len(TURNS):
            more = [*head, *TURNS[len(TURNS) - count - 2 :], LAST]
            assert len(chat_ids(codegemma, more)[0]) > budget
    assert seen == {0, 2, 4, 6, 8, 10}
    assert messages == [*head, *TURNS, LAST]


@pytest.mark.parametrize("messages", [[], [SYSTEM], ["x"], TURNS])
def test_no_conversation(codegemma, messages):
    with pytest.raises(UsageError):
        recent_turns(codegemma, messages, 10)

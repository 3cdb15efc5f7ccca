"""A conversation that grows, kept short enough to be read."""

from collections.abc import Mapping, Sequence

from gemkit.text.chat import Message, chat_ids
from gemkit.text.templates import CHAT, ChatTemplate
from gemkit.text.tokenizer import Tokenizer


def recent_turns(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    budget: int,
    template: ChatTemplate = CHAT,
) -> list[Message]:
    """The conversation without its oldest turns, each a question with its answer.

    A leading system message and the last question always stay, even beyond the budget.

    Args:
        messages: the last one is the user's, to be answered.
        budget: most ids of the prompt that the rest becomes.

    Raises:
        UsageError: messages that make no conversation.
        TokenizerError: the vocabulary has no turn tokens.
    """
    first = messages[0] if messages else None
    system = int(isinstance(first, Mapping) and first.get("role") == "system")
    kept = list(messages)
    while len(chat_ids(tokenizer, kept, template=template)[0]) > budget and len(kept) > system + 1:
        del kept[system : system + 2]
    return kept

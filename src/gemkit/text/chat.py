"""Chat messages to token ids, with a mask of what the assistant has to learn."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gemkit.errors import UsageError
from gemkit.text.templates import CHAT, ChatTemplate
from gemkit.text.tokenizer import Tokenizer

Message = Mapping[str, Any]


def chat_ids(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    add_generation_prompt: bool = True,
    template: ChatTemplate = CHAT,
) -> tuple[list[int], list[bool]]:
    """Ids of a conversation, `<bos>` first, and which of them are the assistant's own.

    Messages are `{"role": "user" | "assistant" | "system", "content": str}`; "model" is another
    name for the assistant, and content may be a list of `{"type": "text", "text": str}`. Contents
    are trimmed; a leading system message goes before the first user turn's text. Only the markers
    written here become control tokens, whatever the contents hold.

    The mask is true on each assistant content and its end of turn.

    Args:
        add_generation_prompt: open the assistant's turn, for it to be generated; the last message
            is then the user's.

    Raises:
        UsageError: no messages, an unknown role, no text, or roles that do not alternate.
        TokenizerError: the vocabulary has no turn tokens.
    """
    start, end = tokenizer.token_to_id(template.start), tokenizer.token_to_id(template.end)
    newline = tokenizer.encode("\n")
    ids, learnt = [tokenizer.bos_id], [False]

    def add(tokens: list[int], own: bool = False) -> None:
        ids.extend(tokens)
        learnt.extend([own] * len(tokens))

    last_role = ""
    for role, lead, content in _turns(messages, template):
        own, last_role = role == template.roles["assistant"], role
        # One string up to the content: a system text that begins with a newline joins the
        # newline after the role in one token, as when the whole conversation is one string.
        add([start, *tokenizer.encode(f"{role}\n{lead}")])
        add([*tokenizer.encode(content), end], own)
        add(newline)
    if add_generation_prompt:
        if last_role == template.roles["assistant"]:
            raise UsageError(
                "the last message is the assistant's",
                "the user's, to be answered",
                "pass add_generation_prompt=False to encode a finished conversation",
            )
        add([start, *tokenizer.encode(f"{template.roles['assistant']}\n")])
    return ids, learnt


def _turns(messages: Sequence[Message], template: ChatTemplate) -> Iterator[tuple[str, str, str]]:
    """Per turn: the role as the model knows it, system text before the content, the content."""
    lead = ""
    rest = list(enumerate(messages))
    if rest and _role(*rest[0]) == "system":
        lead = _content(*rest.pop(0), trim=False) + template.system_separator
    if not rest:
        raise UsageError(f"{len(messages)} messages without a user's", "at least one user message")
    expected = ("user", "assistant")
    for turn, (index, message) in enumerate(rest):
        given, wanted = _role(index, message), expected[turn % 2]
        if template.roles.get(given) != template.roles[wanted]:
            raise UsageError(
                f"message {index} has the role {given!r}",
                f"{wanted!r}: after an optional system message, user and assistant alternate",
            )
        yield template.roles[wanted], lead, _content(index, message)
        lead = ""


def _role(index: int, message: Message) -> str:
    if not isinstance(message, Mapping) or "role" not in message:
        raise UsageError(
            f"message {index} is {str(message)[:60]!r}", '{"role": "user", "content": "..."}'
        )
    return str(message["role"])


def _content(index: int, message: Message, trim: bool = True) -> str:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, Mapping) else None
        if not isinstance(text, str) or part.get("type") != "text":
            raise UsageError(
                f"message {index} has the content {str(content)[:60]!r}",
                'text, or a list of {"type": "text", "text": ...}',
            )
        texts.append(text.strip() if trim else text)
    return "".join(texts)

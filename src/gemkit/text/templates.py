"""Prompt forms and chat turns, as data."""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gemkit.errors import UsageError


@dataclass(frozen=True)
class ChatTemplate:
    """How turns are written: `{start}{role}\\n{content}{end}\\n`, the same in every Gemma.

    Upstream: the `chat_template` of Gemma 1, 2 and 3 instruction-tuned models on Hugging Face.
    """

    start: str = "<start_of_turn>"
    end: str = "<end_of_turn>"
    roles: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType(
            {"user": "user", "assistant": "model", "model": "model"}
        )
    )
    system_separator: str = "\n\n"


@dataclass(frozen=True)
class Template:
    """A prompt with named fields, some of which may have a usual value.

    The answer follows the rendered prompt directly. Each prompt ends in a newline, which is always
    a token of its own, so prompt and answer can be encoded apart.

    >>> TEMPLATES["instruct"].render(instruction="Say {hi}")
    'Instruction:\\nSay {hi}\\n\\nResponse:\\n'
    """

    text: str
    defaults: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            parsed = list(string.Formatter().parse(self.text))
        except ValueError as error:
            raise UsageError(f"template {self.text!r}: {error}", "fields such as {text}") from None
        for _, name, form, conversion in parsed:
            if name is not None and (not name.isidentifier() or form or conversion):
                raise UsageError(
                    f"template {self.text!r} has the field {{{name}}}",
                    "plain names such as {text}",
                    "write {{ and }} for braces",
                )

    @property
    def fields(self) -> tuple[str, ...]:
        """The names to fill in, in order of appearance."""
        names = (name for _, name, _, _ in string.Formatter().parse(self.text) if name)
        return tuple(dict.fromkeys(names))

    def render(self, **values: str | None) -> str:
        """Fill in the fields. Values may hold braces; values of other names are ignored.

        Raises:
            UsageError: a field has no value.
        """
        given = {name: value for name, value in values.items() if value is not None}
        filled = {**self.defaults, **given}
        if missing := [name for name in self.fields if name not in filled]:
            raise UsageError(
                f"no value for {', '.join(missing)}", f"values for {', '.join(self.fields)}"
            )
        return self.text.format_map(filled)


CHAT = ChatTemplate()

TEMPLATES: Mapping[str, Template] = MappingProxyType(
    {
        "instruct": Template("Instruction:\n{instruction}\n\nResponse:\n"),
        "instruct_context": Template(
            "Instruction:\n{instruction}\n\nContext:\n{context}\n\nResponse:\n"
        ),
        # What a user says in a chat, where the end is trimmed.
        "question": Template("{instruction}\n"),
        "question_context": Template("{instruction}\n\n{context}\n"),
        "translate": Template(
            "Translate this into {language}:\n{source}\n", {"language": "French"}
        ),
        "classify": Template("{text}\nLabel:\n"),
        "classify_labels": Template(
            "Classify the text as one of: {labels}.\n\nText:\n{text}\n\nLabel:\n"
        ),
        "explain": Template(
            "Explain this code to a beginner. Answer in {language}, as Markdown with\n"
            "- a title that says what the code does,\n"
            "- what happens step by step, each step with the lines it is about,\n"
            "- the output to expect when it runs, in a code block.\n\n"
            "{fence}\n{code}\n{fence}\n",
            {"language": "English", "fence": "```"},
        ),
    }
)


def explain_prompt(code: str, language: str = "English") -> str:
    """The question to a chat model what some code does.

    >>> explain_prompt("print('```')").splitlines()[-1]
    '````'
    """
    longest = max(map(len, re.findall(r"`{3,}", code)), default=2)
    return TEMPLATES["explain"].render(
        code=code.strip("\n"), language=language, fence="`" * (longest + 1)
    )

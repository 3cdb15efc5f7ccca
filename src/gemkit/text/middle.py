"""What ends a generated middle: its line, its block, or the text that already follows it.

Everything here looks at text alone, so it works on a whole answer and on one still being written.
"""

import re
from dataclasses import dataclass
from typing import Literal

from gemkit.errors import UsageError

Lines = Literal["auto", "one", "many"]

# A line that ends in one of these goes on below it, indented further.
BLOCK_OPENERS = (":", "{")
OPENERS, CLOSERS = "([{", ")]}"
COMMENTS = ("#", "//", "--", "*", "/*")
# Words that begin a statement and never follow themselves.
STATEMENT_WORDS = frozenset(
    "assert async await break case catch class const continue def del delete elif else enum except "
    "export extern fn for foreach from func function global if impl import include interface let "
    "match namespace nonlocal package print private protected public pub raise return select "
    "static struct switch throw trait try typedef use using val var where while with yield".split()
)
_ASSIGNMENT = re.compile(r"[\w.\[\]'\", ]*[\w\]](\s*:[^=(]+)?\s*[-+*/%&|^:]?=(?!=)")


@dataclass(frozen=True)
class Gap:
    """A place in a text that a middle is written for.

    Attributes:
      prefix, suffix: the text around it, with line ends "\\n".
      lines: how much is wanted: "one" line, "many" or "auto": one where the cursor's line has
        text before the cursor, unless that opens a block; else many.

    >>> gap = Gap("def total(values):\\n    ", "\\n\\nprint(total([1]))\\n")
    >>> gap.is_over("return sum(values)\\n\\n\\np")
    True
    >>> gap.cut("return sum(values)\\n\\n\\np")
    'return sum(values)'
    """

    prefix: str
    suffix: str = ""
    lines: Lines = "auto"

    def __post_init__(self) -> None:
        if self.lines not in ("auto", "one", "many"):
            raise UsageError(f"lines is {self.lines!r}", '"auto", "one" or "many"')

    @property
    def typed(self) -> str:
        """What the cursor's line holds before it."""
        return self.prefix[self.prefix.rfind("\n") + 1 :]

    @property
    def rest(self) -> str:
        """What the cursor's line holds after it."""
        return self.suffix.partition("\n")[0]

    @property
    def one_line(self) -> bool:
        """Whether the middle is one line.

        Text after the cursor alone does not make it so: at the start of a line that text is what
        comes next, as a line below would be.
        """
        if self.lines != "auto":
            return self.lines == "one"
        return self.typed.strip() != "" and not (_opens(self.typed) and not self.rest.strip())

    def is_over(self, text: str) -> bool:
        """Whether more text cannot change what `cut` makes of it."""
        return self._end(text[_repeated(self.prefix, text) :], whole=False) is not None

    def cut(self, text: str) -> str:
        """The middle in an answer.

        Left out are: the start of the cursor's line written again; what follows the one line or
        the indented block that is wanted; text from where it begins to write the suffix again,
        which is where its lines equal those of the suffix from its first that is not blank
        through its first with a letter or digit (a lone ")" proves nothing); and blank lines at
        the end.
        """
        text = text[_repeated(self.prefix, text) :]
        return self._tidy(self._without_closers(text[: self._end(text, whole=True)]))

    def _end(self, text: str, whole: bool) -> int | None:
        if self.one_line:
            ends = [self._line_end(text), self._suffix_again(text, whole)]
        else:
            ends = [self._block_end(text, whole), self._suffix_again(text, whole)]
        return min((end for end in ends if end is not None), default=None)

    def _line_end(self, text: str) -> int | None:
        inside = self.typed.strip() != "" and self.rest.strip() != ""
        # After a line that is complete the one line is the next.
        start = 0 if inside else len(text) - len(text.lstrip())
        place = text.find("\n", start)
        above = not inside and self.rest.strip() != ""
        return None if place < 0 else place + above

    def _block_end(self, text: str, whole: bool) -> int | None:
        least = self._least_indent(text)
        place = text.find("\n") + 1
        if not least or not place:
            return None
        for line in text[place:].splitlines(keepends=True):
            body, start = line.strip(), place
            place += len(line)
            if not body or _indent(line) >= least:
                continue
            if body[0] not in CLOSERS:
                return start
            if not whole and not line.endswith("\n"):
                return None
            if self._has_closer(line):
                return start
            if body[-1] not in (*OPENERS, *BLOCK_OPENERS):
                return place - line.endswith("\n")
        return None

    def _least_indent(self, text: str) -> int:
        """The indentation of the cursor's block: a line with less ends it."""
        if self.typed.strip():
            return _indent(self.typed) + _opens(self.typed)
        return _indent(self.typed or _first_line(text))

    def _has_closer(self, line: str) -> bool:
        following = _first_line(self.suffix)
        closer = line.strip()[0]
        return following.strip()[:1] == closer and _indent(following) == _indent(line)

    def _suffix_again(self, text: str, whole: bool) -> int | None:
        targets = _opening_lines(self.suffix)
        if not targets or not re.search(r"\w", targets[-1]):
            return None
        full = self.typed + text
        known = full if whole else full[: full.rfind("\n") + 1]
        lines = [match for match in re.finditer(r"[^\n]+", known) if match.group().strip()]
        for index in range(len(lines) - len(targets) + 1):
            found = [line.group().rstrip() for line in lines[index : index + len(targets)]]
            if found[1:] != targets[1:] or not found[0].endswith(targets[0]):
                continue
            cut = len(found[0]) - len(targets[0])
            if cut and not (self.rest.strip() and self._goes_on_at(found[0], cut)):
                continue
            place = lines[index].start() + cut - len(self.typed)
            if place >= 0 or lines[index].start() == 0 and not cut:
                return max(place, 0)
        return None

    def _goes_on_at(self, line: str, cut: int) -> bool:
        """Whether the rest of the cursor's line may stand here in another one."""
        if line[:cut].strip() == "":
            return line[:cut] == self.typed
        return not re.match(r"\w\w", line[cut - 1 : cut + 1])

    def _without_closers(self, text: str) -> str:
        """`f(` `x)` `)`: cuts a bracket that is closed twice."""
        rest = self.rest.strip()
        if not self.one_line or not rest or rest.strip(CLOSERS + ":;,") or not text.endswith(rest):
            return text
        opened = _depth(self.typed) > 0 > _depth(self.typed + text + rest)
        return text[: -len(rest)] if opened and _depth(self.typed + text) == 0 else text

    def _tidy(self, text: str) -> str:
        body = text.rstrip()
        line_ended = "\n" in text[len(body) :]
        if not self.rest.strip():
            at_end = "\n" not in self.suffix
            return f"{body}\n" if body and line_ended and at_end else body
        if line_ended and not self.typed.strip():
            return f"{body}\n{self.typed}" if body else ""
        return text


def _repeated(prefix: str, text: str) -> int:
    """How many characters at the start of an answer write the cursor's line again.

    Only what cannot be meant: `return ` before `return x`, not `f(` before `f(x))`.
    """
    before, _, typed = prefix.rpartition("\n")
    start = typed if text.startswith(typed) else typed.lstrip()
    if not start or not text.startswith(start):
        return 0
    if not start.strip():
        above = _last_line(before)
        deeper = _opens(above) and _indent(typed) <= _indent(above)
        return 0 if deeper else len(start)
    word = _word(start)
    if word == start.strip() and not start.endswith(" "):
        known = len(word) > 1 and _word(text) in STATEMENT_WORDS
    else:
        known = word in STATEMENT_WORDS or _ASSIGNMENT.match(start) is not None
    return len(start) if known else 0


def _word(text: str) -> str:
    return re.split(r"\W", text.lstrip(), maxsplit=1)[0]


def _opens(line: str) -> bool:
    """Whether a block begins below a line."""
    body = line.strip()
    return body.endswith(BLOCK_OPENERS) and not body.startswith(COMMENTS)


def _indent(line: str) -> int:
    wide = line.expandtabs(8)
    return len(wide) - len(wide.lstrip())


def _depth(line: str) -> int:
    """Brackets opened less those closed."""
    return sum((character in OPENERS) - (character in CLOSERS) for character in line)


def _first_line(text: str) -> str:
    return next((line for line in text.split("\n") if line.strip()), "")


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.split("\n")) if line.strip()), "")


def _opening_lines(suffix: str) -> list[str]:
    lines = []
    for line in suffix.split("\n"):
        if line.strip():
            lines.append(line.rstrip())
            if re.search(r"\w", line):
                break
    return lines

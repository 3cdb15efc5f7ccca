"""Lines copied from an interactive Python session."""

import re

_PROMPTED = re.compile(r"[ \t]*(>>>|\.\.\.) ?(.*)")


def without_prompts(text: str) -> str:
    """The code of a session: what follows `>>>` and `...`; what was printed is left out.

    Text that does not begin with `>>>` is no session and comes back as it is.

    >>> without_prompts(">>> for n in (1, 2):\\n...     print(n)\\n...\\n1\\n2\\n>>> 3 + 4\\n7\\n")
    'for n in (1, 2):\\n    print(n)\\n\\n3 + 4\\n'
    """
    if not text.lstrip().startswith(">>>"):
        return text
    code, inside = [], False
    for line in text.splitlines():
        match = _PROMPTED.fullmatch(line)
        # A line of dots that was printed is no code: that goes on below a prompt only.
        inside = match is not None and (inside or match[1] == ">>>")
        if match and inside:
            code.append(match[2])
    return "\n".join(code) + "\n"

"""What the pages take from the code: `<!-- from code: NAME -->` becomes a table or help text.

MkDocs calls `on_page_markdown`; everything else is a pure function of the package's own tables.
"""

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
MARKER = re.compile(r"^<!-- from code: ([a-z ]+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs' hook: a page with its markers replaced."""
    return MARKER.sub(lambda found: FROM_CODE[found[1]](), markdown)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A Markdown table; columns numbered in `right` are aligned to the right."""
    rule = ["--:" if column in right else "---" for column in range(len(head))]
    lines = [head, rule, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def models() -> str:
    from gemkit.model.variants import VARIANTS
    from gemkit.summary import human_bytes

    head = ("name", "parameters", "in bfloat16", "context", "trained for", "Hugging Face", "Kaggle")
    rows = [
        (
            f"`{v.name}`", f"{v.parameters:,}", human_bytes(2 * v.parameters),
            f"{v.config.max_positions:,}",
            ", ".join(kind for kind, so in (("chat", v.instruct), ("fim", v.fim)) if so),
            f"`hf://{v.hugging_face}`", f"`kaggle://{v.kaggle}`",
        )
        for v in VARIANTS.values()
    ]  # fmt: skip
    return table(head, rows, right=(1, 2, 3))


def shapes() -> str:
    from gemkit.model.variants import VARIANTS

    fields = (
        "num_layers", "hidden_size", "intermediate_size", "num_heads", "num_kv_heads", "head_dim",
        "vocab_size", "sliding_window", "max_positions",
    )  # fmt: skip
    named: dict[Any, list[str]] = {}
    for variant in VARIANTS.values():
        named.setdefault(variant.config, []).append(variant.name)
    rows = [
        (f"`{names[0]}`" + (f" and {len(names) - 1} more" if len(names) > 1 else ""),
         *(str(getattr(config, field) or "") for field in fields))
        for config, names in named.items()
    ]  # fmt: skip
    return table(("shape of", *(f"`{f}`" for f in fields)), rows, right=range(1, len(fields) + 1))


def formats() -> str:
    from gemkit.checkpoint.formats import FORMATS

    head = ("`--to`", "what it is", "stored as", "`--dtype`")
    rows = [
        (
            f"`{name}`", row.title, "one file" if row.one_file else "a folder",
            ", ".join(f"`{d}`" for d in row.dtypes),
        )
        for name, row in FORMATS.items()
    ]  # fmt: skip
    return table(head, rows)


def commands() -> str:
    from gemkit.cli.main import COMMANDS, cli

    root = cli.make_context("gemkit", [], resilient_parsing=True)
    parts = []
    for command in COMMANDS:
        name = command.name or ""
        context = command.make_context(name, [], parent=root, resilient_parsing=True)
        context.max_content_width = 96
        parts.append(f"## gemkit {name}\n\n```text\n{command.get_help(context)}\n```")
    return "\n\n".join(parts)


def tasks() -> str:
    from gemkit.tasks import TASKS

    rows = [(f"`{name}`", first_line(task)) for name, task in TASKS.items()]
    return table(("TASK", "what is learnt"), rows)


def metrics() -> str:
    from gemkit.evaluate.report import MEANINGS
    from gemkit.metrics.scores import METRICS
    from gemkit.tasks import TASKS

    rows = [
        (
            f"`{name}`", metric.title, MEANINGS[name],
            ", ".join(f"`{task}`" for task, kind in TASKS.items() if name in kind.measures)
            or "`complete` with `--run-tests`",
        )
        for name, metric in METRICS.items()
    ]  # fmt: skip
    return table(("name", "title", "what it says", "of"), rows)


def python() -> str:
    import gemkit
    from gemkit.tasks import TASKS

    named = [(f"gemkit.{name}", getattr(gemkit, name)) for name in gemkit.__all__]
    functions = [(name, member) for name, member in named if inspect.isfunction(member)]
    methods = [
        (f"LanguageModel.{name}", member)
        for name, member in vars(gemkit.LanguageModel).items()
        if not name.startswith("_") and inspect.isfunction(member)
    ]
    tasks = [(f"tasks.{kind.__name__}", kind) for kind in TASKS.values()]
    parts = {
        "Functions": functions, "The model": methods, "Tasks": tasks,
        "Settings": [("gemkit.Lora", gemkit.Lora)],
    }  # fmt: skip
    return "\n\n".join(
        "\n\n".join([f"## {title}", *(entry(name, member) for name, member in members)])
        for title, members in parts.items()
    )


def entry(name: str, documented: Any) -> str:
    """The heading, call and docstring of a function or a class."""
    parameters = inspect.signature(documented).parameters.values()
    call = ", ".join(_parameter(p) for p in parameters if p.name != "self")
    doc = inspect.getdoc(documented) or ""
    short = name.rsplit(".", 1)[1]
    lines = textwrap.wrap(f"{short}({call})", 88, subsequent_indent="    ")
    shown = "\n".join(lines)
    return f"### {name}\n\n```python\n{shown}\n```\n\n```text\n{doc}\n```"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    if parameter.default is parameter.empty:
        return f"{stars}{parameter.name}"
    return f"{parameter.name}={parameter.default!r}"


def first_line(documented: Any) -> str:
    return (inspect.getdoc(documented) or "").split("\n", 1)[0]


def benchmarks() -> str:
    """The newest result of each benchmark, as its run wrote it."""
    newest: dict[str, Path] = {}
    for path in sorted(RESULTS.glob("*.md")):
        date, name = path.stem[:10], path.stem[11:]
        newest[name] = path
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", date), path
    parts = []
    for name in sorted(newest):
        # Each begins with a heading of the day and the machine.
        kind, text = name.rsplit("-", 1)[-1].capitalize(), newest[name].read_text(encoding="utf-8")
        parts.append(re.sub(r"^#+ ", f"### {kind}, ", text.strip()))
    return "\n\n".join(parts)


FROM_CODE: dict[str, Callable[[], str]] = {
    "models": models, "shapes": shapes, "formats": formats, "commands": commands, "tasks": tasks,
    "metrics": metrics, "python": python, "benchmarks": benchmarks,
}  # fmt: skip

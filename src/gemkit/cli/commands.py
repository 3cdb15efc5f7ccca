"""Commands about models themselves: models, info."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gemkit.cli.options import JSON, MODEL, Command, as_json, pieces, present

if TYPE_CHECKING:
    from gemkit.adapt.lora import Lora
    from gemkit.model.config import GemmaConfig


@click.command(cls=Command)
@JSON
def models(as_program: bool) -> None:
    """List the models there are, and which are on this disk.

    chat: trained on turns; fim: trained to fill in the middle of code.
    """
    rows = _model_rows()
    if as_program:
        as_json(rows)
        return
    from gemkit.summary import human_bytes

    head = ("name", "family", "parameters", "in bfloat16", "context", "trained for", "on disk")
    table = [
        (
            row["name"], row["family"], f"{row['parameters']:,}",
            human_bytes(row["bfloat16_bytes"]), f"{row['context']:,}",
            ", ".join(kind for kind in ("chat", "fim") if row[kind]),
            "yes" if row["path"] else "",
        )
        for row in rows
    ]  # fmt: skip
    print_table(head, table, right=(2, 3, 4))


def _model_rows() -> list[dict[str, Any]]:
    from gemkit.checkpoint.hub.handles import EMBEDDED, on_disk
    from gemkit.checkpoint.load import read_shape
    from gemkit.model.variants import VARIANTS
    from gemkit.model.weights import count_parameters

    rows = []
    for name, folder in EMBEDDED.items():
        if folder.is_dir():
            config, _ = read_shape(folder)
            rows.append(
                _row(name, "embedded", count_parameters(config), config, True, True, folder)
            )
    for v in VARIANTS.values():
        rows.append(
            _row(v.name, v.family, v.parameters, v.config, v.instruct, v.fim, on_disk(v))
        )
    return rows


def _row(
    name: str, family: str, count: int, config: "GemmaConfig", chat: bool, fim: bool,
    path: Path | None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "name": name, "family": family, "parameters": count, "bfloat16_bytes": 2 * count,
        "context": config.max_positions, "chat": chat, "fim": fim,
        "path": None if path is None else str(path),
    }  # fmt: skip


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: tuple[int, ...] = ()
) -> None:
    """A table in columns two blanks apart, the head bold on a terminal; nothing is cut off."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        line = "  ".join(cells).rstrip()
        click.echo(click.style(line, bold=True) if row is head else line)


@click.command(cls=Command)
@MODEL
@click.option("--lora-rank", type=int, metavar="R", help="Count what LoRA of this rank adds.")
@click.option("--targets", metavar="q,v", help="Matrices LoRA adapts; default every linear layer.")
@click.option("--quantize", metavar="int8|int4", help="Frozen weights in so many bits.")
@JSON
def info(
    model: str, lora_rank: int | None, targets: str | None, quantize: str | None, as_program: bool
) -> None:
    """Show the layers, parameters and memory of a model.

    A preset's name needs no weights on disk; it is shown as published, in bfloat16.
    """
    from gemkit.summary import facts, summary_table

    shape = _shape(model, lora_rank, pieces(targets), quantize)
    config, itemsize, lora, quantize = shape
    found = facts(*shape)
    memory = _memory(*shape)
    keras = None if lora is None else keras_adapter_count(config, lora.rank)
    if as_program:
        import dataclasses

        shown = {"model": model, "config": config.to_dict(), **dataclasses.asdict(found)}
        shown["memory"], shown["quantize"] = memory, quantize
        if lora is not None:
            shown["lora"] = {**dataclasses.asdict(lora), "keras_form_parameters": keras}
        as_json(shown)
        return
    print(summary_table(model, *shape))
    _print_memory(memory)
    if lora is not None:
        print(f"\nLoRA of rank {lora.rank} on {', '.join(lora.targets)}: {found.trainable:,}")
        print("  as PEFT counts: an A [R, in] and a B [out, R] for each matrix")
        print(f"  Keras's enable_lora({lora.rank}) trains {keras:,}: query and value only,")
        print("  with a B that the heads of a layer share")


def _shape(
    model: str, rank: int | None, targets: tuple[str, ...] | None, quantize: str | None
) -> tuple["GemmaConfig", int, "Lora | None", str | None]:
    """Configuration, bytes a weight, LoRA and bits of a MODEL; weights are read for a run only."""
    import jax.numpy as jnp

    from gemkit.adapt.lora import Lora
    from gemkit.adapt.quantize import check_method, method_of
    from gemkit.checkpoint.hub.handles import locate
    from gemkit.checkpoint.load import read_shape
    from gemkit.loading import load
    from gemkit.model.variants import VARIANTS

    wanted = present(rank=rank, targets=targets)
    lora = Lora(**wanted) if wanted else None
    if quantize is not None:
        check_method(quantize)
        lora = lora or Lora()  # only an adapter can be trained on them
    if model in VARIANTS:
        return VARIANTS[model].config, 2, lora, quantize
    path = locate(model)
    if (path / "run.json").is_file():
        lm = load(path, quantize=quantize)
        return lm.config, lm.base["embed"].dtype.itemsize, lora or lm.lora, method_of(lm.base)
    config, dtype = read_shape(path)
    return config, jnp.dtype(dtype).itemsize, lora, quantize


def _memory(
    config: "GemmaConfig", itemsize: int, lora: "Lora | None", quantize: str | None
) -> dict[str, Any]:
    """What one text as long as the context takes, what tuning does, and whether both fit."""
    import jax

    from gemkit.kernels.dot import available
    from gemkit.progress import free_memory
    from gemkit.train.plan import Tuning, advice, plan_running, plan_tuning

    free = free_memory()
    given: dict[str, Any] = {
        "config": config, "itemsize": itemsize, "lora": lora, "quantize": quantize,
        "platform": jax.default_backend(), "kernels": available(),
    }  # fmt: skip
    tuning = Tuning(**given)
    plans = {"run": plan_running(**given), "tune": plan_tuning(tuning)}
    shown: dict[str, Any] = {"free": free}
    for name, plan in plans.items():
        verdict = None if free is None else plan.verdict(free)
        shown[name] = {"total": plan.total, "parts": plan.parts(), "verdict": verdict}
    shown["tune"]["batch_tokens"] = tuning.batch_tokens
    shown["tune"]["instead"] = {name: plan.total for name, plan in advice(tuning)}
    return shown


def _print_memory(memory: dict[str, Any]) -> None:
    from gemkit.summary import human_bytes

    titles = {
        "run": "Memory to run, one text as long as the context",
        "tune": f"Memory to tune, {memory['tune']['batch_tokens']} tokens a step",
    }
    for name, title in titles.items():
        found = memory[name]
        said = f" ({found['verdict']})" if found["verdict"] else ""
        print(f"\n{title}: {human_bytes(found['total'])}{said}")
        parts = (f"{part} {human_bytes(size)}" for part, size in found["parts"].items())
        print(f"  {', '.join(parts)}")
    if memory["tune"]["verdict"] not in (None, "fits"):
        instead = memory["tune"]["instead"].items()
        print("  less: " + ", ".join(f"{name} {human_bytes(total)}" for name, total in instead))
    if memory["free"] is not None:
        print(f"Free memory: {human_bytes(memory['free'])}")


def keras_adapter_count(config: "GemmaConfig", rank: int) -> int:
    """Trainable parameters of Keras's `backbone.enable_lora(rank)`.

    Query and value get an A [heads, D, R] each and one B [R, H] for all heads (Keras's
    EinsumDense.enable_lora): for Gemma 2B and rank 4, 1,363,968.
    """
    heads = config.num_heads + config.num_kv_heads
    return config.num_layers * rank * (heads * config.hidden_size + 2 * config.head_dim)

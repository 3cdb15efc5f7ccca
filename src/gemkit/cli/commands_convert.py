"""Commands between formats: convert, merge, adapter."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gemkit.cli.options import JSON, Command, as_json, options, remark
from gemkit.progress import progress

if TYPE_CHECKING:
    from gemkit.checkpoint.adapters import AdapterConversion
    from gemkit.checkpoint.convert import Conversion
    from gemkit.model.config import GemmaConfig

FORMAT = click.option(
    "--to", "format", help="hf, a Hugging Face folder; keras, a preset; flax; gguf, one file."
)
STORED = options(
    FORMAT,
    click.option(
        "--dtype", help="Store as float32, bfloat16, float16; GGUF also q8_0, q4_0; default as is."
    ),
)


@click.command(cls=Command)
@click.argument("src")
@click.argument("dst", type=click.Path(path_type=Path))
@STORED
@JSON
def convert(
    src: str, dst: Path, format: str | None, dtype: str | None, as_program: bool
) -> None:
    """Write the model SRC in another format.

    SRC is a model in any format, DST becomes a folder or, as GGUF, a file. Without --to a DST
    that ends in .gguf is GGUF and any other a Hugging Face folder. The result is read back and
    its logits are compared with the source's; if it is another model, nothing is kept.
    """
    from gemkit.checkpoint.convert import convert as run
    from gemkit.checkpoint.hub.handles import locate
    from gemkit.errors import UsageError

    path = locate(src)
    if (path / "run.json").is_file():
        raise UsageError(f"{src} is a run of gemkit tune", "a model", "gemkit merge writes runs")
    with progress(f"Converting {src}") as tell:
        done = run(path, dst, _format(dst, format), dtype, lambda n, total: tell(n, total, ""))
    _tell(done, dst, as_program)


@click.command(cls=Command)
@click.argument("run")
@click.argument("dst", type=click.Path(path_type=Path))
@STORED
@JSON
def merge(
    run: str, dst: Path, format: str | None, dtype: str | None, as_program: bool
) -> None:
    """Write a RUN as one model, its adapter merged into the weights.

    DST becomes a folder or, as GGUF, a file. The result is read back and its logits are compared
    with those of model and adapter; if it is another model, nothing is kept.
    """
    from gemkit.checkpoint.convert import save_merged
    from gemkit.loading import load

    lm = load(run)
    with progress(f"Merging {run}") as tell:
        done = save_merged(
            dst, lm.config, lm.params, lm.optional_tokenizer, _format(dst, format), dtype,
            lambda n, total: tell(n, total, ""),
        )  # fmt: skip
    _tell(done, dst, as_program)


@click.command(cls=Command)
@click.argument("src", type=click.Path(path_type=Path))
@click.argument("dst", type=click.Path(path_type=Path))
@click.option("--to", "format", help="peft, a folder (default); keras; flax; gguf.")
@click.option("--model", metavar="MODEL", help="The base; default the one SRC names.")
@click.option("--approximate", is_flag=True, help="Keep the nearest where Keras cannot say all.")
@click.option("--rank", type=int, metavar="R", help="Of a Keras file; default the adapter's own.")
@JSON
def adapter(
    src: Path, dst: Path, format: str | None, model: str | None, approximate: bool,
    rank: int | None, as_program: bool,
) -> None:  # fmt: skip
    """Write the adapter SRC in another format.

    SRC is a RUN or an adapter in any format, DST a new folder or file. Of the base only the shape
    is needed, not the weights. The result is read back and its update matrices are compared with
    the source's; if it is another adapter, nothing is kept.
    """
    from gemkit.checkpoint.adapters import convert_adapter

    source, base, base_hash = _adapter_source(src, model)
    config = _base_config(base)
    done = convert_adapter(
        source, dst, format or "peft", config, approximate=approximate, rank=rank, base=base,
        base_hash=base_hash,
    )  # fmt: skip
    _tell(done, dst, as_program)


def _adapter_source(src: Path, model: str | None) -> tuple[Path, str, str]:
    """The adapter's place, the name of its base and the hash it was trained on, "" if unknown."""
    from gemkit.checkpoint.adapters import recognise
    from gemkit.checkpoint.peft.config import read_config
    from gemkit.errors import UsageError
    from gemkit.loading import read_run

    if (src / "run.json").is_file():
        run = read_run(src)
        if not (src / "adapter").is_dir():
            raise UsageError(f"{src} has no adapter: all weights were tuned", "a run with one")
        return src / "adapter", model or run["model"]["name"], run["model"].get("sha256") or ""
    if recognise(src) == "peft":
        known = read_config(src / "adapter_config.json")
        named = known.values.get("base_model_name_or_path")
        return src, model or str(named or ""), known.base_hash or ""
    return src, model or "", ""


def _base_config(base: str) -> "GemmaConfig":
    from gemkit.checkpoint.hub.handles import locate
    from gemkit.checkpoint.load import read_shape
    from gemkit.errors import UsageError
    from gemkit.model.variants import VARIANTS

    if not base:
        raise UsageError("the adapter does not name its base", "--model with the base's name")
    if base in VARIANTS:
        return VARIANTS[base].config
    by_repository = {v.hugging_face: v for v in VARIANTS.values()}
    if base in by_repository:
        return by_repository[base].config
    return read_shape(locate(base))[0]


def _format(dst: Path, format: str | None) -> str:
    return format or ("gguf" if dst.suffix == ".gguf" else "hf")


def _tell(done: "Conversion | AdapterConversion", dst: Path, as_program: bool) -> None:
    import dataclasses

    if as_program:
        as_json({"path": str(dst), **dataclasses.asdict(done)})
        return
    print(done)
    remark(f"{dst} is written")

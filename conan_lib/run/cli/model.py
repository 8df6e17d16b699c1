"""Commands about a model that is there: give ours away; search, mine and evaluate with ours or anybody's."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from conan_lib.errors import UserError
from conan_lib.run.cli.app import File, app, say

Model = Annotated[str, typer.Argument(help="A sentence-transformers model: a folder, or a name on the hub.", show_default=False)]


@app.command()
def export(
    file: File,
    folder: Annotated[Path, typer.Argument(help="A new or an empty folder.", show_default=False)],
    onnx: Annotated[bool, typer.Option("--onnx", help="Also write onnx/model.onnx, for onnxruntime.")] = False,
):
    """Write the last checkpoint as a sentence-transformers folder with its model card, ready for the hub (docs/export.md)."""
    from conan_lib.params import load_params
    from conan_lib.stages import resolve

    load_params(resolve(file))  # a mistake in the file comes before a missing package
    from conan_lib.run.export import export_model

    export_model(resolve(file), folder, onnx)
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    say(f"{folder}: {len(files)} files, {size / 1e6:.1f} MB")


@app.command()
def search(
    model: Model,
    texts: Annotated[Path, typer.Argument(help="Texts to search: .txt with one a line, .jsonl, .csv or .parquet.", show_default=False)],
    queries: Annotated[list[str] | None, typer.Argument(help="Sentences; none: they are read line by line.", show_default=False)] = None,
    top: Annotated[int, typer.Option(min=1, help="Texts shown for each.")] = 5,
):
    """Show the texts that are nearest to a sentence."""
    if queries and not all(map(str.strip, queries)):
        raise UserError("a sentence is empty: give words, or no sentence at all, to type them line by line")
    from conan_lib.run.use.search import search

    for query, found in search(model, texts, queries or _typed(), top):
        say("", query, *(f"{score:6.3f}  {number:>6}  {' '.join(text.split())[:120]}" for score, number, text in found))


def _typed() -> Iterator[str]:
    """Lines of the standard input, asked for where somebody types."""
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        if not (line := sys.stdin.readline()):
            return
        yield line


@app.command()
def mine(
    pairs: Annotated[Path, typer.Argument(help="Your pairs, in any form that data.sets knows (docs/own_data.md).", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .jsonl to write.", show_default=False)],
    model: Annotated[str, typer.Option(help="A sentence-transformers model: a folder, or a name on the hub.", show_default=False)],
    corpus: Annotated[Path | None, typer.Option(help="Texts to search beside the pairs' own passages.")] = None,
    negatives: Annotated[int, typer.Option(min=1, help="Most of one pair.")] = 7,
    margin: Annotated[float, typer.Option(help="Leave out what scores above (1 - margin) times the positive.")] = 0.05,
    skip: Annotated[int, typer.Option(min=0, help="Pass over so many of the best-ranked candidates.")] = 0,
    form: Annotated[
        Literal["flagembedding", "sentence-transformers"],
        typer.Option(help="query, pos, neg and scores; or anchor, positive, negative_1, ..."),
    ] = "flagembedding",
):
    """Find hard negatives for your pairs, ranked and scored, in the form of FlagEmbedding or sentence-transformers."""
    if not 0 <= margin < 1:
        raise UserError(f"--margin {margin:g}: give a share of the positive's score, from 0 to below 1")
    from conan_lib.run.use.mining import mine_pairs

    counts = mine_pairs(pairs, output, model, corpus, negatives, margin, skip, form)
    say(f"{output}: {counts['written']:,} of {counts['read']:,} pairs with {counts['negatives']:,} negatives")


@app.command()
def evaluate(
    model: Model,
    suite: Annotated[str | None, typer.Option(help='A benchmark of mteb, for example "MTEB(eng, v2)".')] = None,
    data: Annotated[Path | None, typer.Option(help="Your held-out pairs, in any form that data.sets knows.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="With --data: more passages to search.")] = None,
    against: Annotated[str | None, typer.Option(help="Another model to compare with, for example the start of training.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of mteb's result files.")] = Path("evaluation"),
):
    """Score a model on a suite or on your own pairs, beside BM25 and perhaps another model, with 95 % intervals."""
    from rich.console import Console
    from rich.table import Table

    from conan_lib.run.use.evaluating import evaluate_model

    rows, differences = evaluate_model(model, output, suite, data, corpus, against)
    table = Table("model", "task", "subset", "metric", "value", "95 % interval", "items")
    for row in rows:
        interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        value = "" if row["value"] is None else f"{row['value']:.3f}"
        table.add_row(row["model"], row["task"], row["subset"], row["metric"], value, interval, str(row["n"] or ""))
    Console().print(table)
    for row in differences:
        say(f"{row['after']} - {row['before']}, {row['metric']}: {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]")
    say(f"{output}: mteb's result files")

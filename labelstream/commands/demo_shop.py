"""labelstream demo-shop: a made-up shop as files, for trying out every other command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from labelstream.console import err


def demo_shop(
    out: Annotated[
        Path, typer.Option("--out", file_okay=False, help="Folder for products.jsonl, truth.csv, judgments.csv.")
    ],
    queries: Annotated[int, typer.Option(min=8, help="Different queries whose truth is told.")] = 240,
    per_query: Annotated[int, typer.Option(min=3, max=300, help="Products of each query.")] = 18,
    products: Annotated[int, typer.Option(min=100, help="Size of the catalogue.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="Another seed makes another shop.")] = 2,
) -> None:
    """Write the catalogue of a made-up shop, and the truth about what its shoppers search for. All of it is invented.

    truth.csv rates every query: it is for `labelstream simulate`. judgments.csv has a quarter of the queries, as if
    people had judged only these: it is for `labelstream train`, `evaluate` and `retrain`. Read both with
    --layout products.
    """
    from labelstream.training.demo_judgments import write_demo_shop

    made = write_demo_shop(out, queries=queries, per_query=per_query, products=products, seed=seed)
    typer.echo(
        f"made-up shop in {out}: {products:,} products, {made.pairs:,} pairs of {made.queries:,} queries, "
        f"{made.judged:,} of these in judgments.csv"
    )
    err.print(f"next: labelstream import {shlex.quote(str(made.catalogue))}", soft_wrap=True)

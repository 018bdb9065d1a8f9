"""labelstream split: files of judgements to train on and to measure by, cut by query."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelstream.console import err, print_table
from labelstream.schemas.errors import SettingsError


def split(
    judgments: Annotated[
        Path, typer.Option("--judgments", exists=True, dir_okay=False, help="CSV query,docid,rating, plain or .gz.")
    ],
    out: Annotated[Path, typer.Option("--out", help="New folder; each split is a folder 1, 2, … in it.")],
    raters: Annotated[
        Path | None,
        typer.Option(
            "--raters", exists=True, dir_okay=False, help="CSV query,docid,agent_1_rating,…: is cut likewise."
        ),
    ] = None,
    share: Annotated[float, typer.Option(min=0.01, max=0.99, help="Share of the queries to measure by.")] = 0.33,
    repeats: Annotated[int, typer.Option(min=1, help="How many splits, each drawn from all queries.")] = 1,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2, help="Instead: so many splits that measure each query once; --share and --repeats are out."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same file, same seed, same splits.")] = 1,
) -> None:
    """Cut judgements into training.csv and test.csv, several times, a query always wholly in one of them.

    Train on each training.csv, evaluate on the test.csv beside it, and measure all of them together with
    `labelstream pool`.
    """
    from labelstream.training.split_files import read_rows, write_split
    from labelstream.training.splits import query_folds, query_holdouts

    if out.exists():
        raise SettingsError(f"--out {out} exists; name a new folder, or remove this one")
    rows, said = read_rows(judgments), read_rows(raters) if raters else None
    for path, source in ((judgments, rows), (raters, said)):
        if source is not None and source.malformed:
            err.print(f"{path}: left out {source.malformed:,} rows that are not as long as the header", soft_wrap=True)
    if folds is None:
        splits = query_holdouts(rows.queries, share=share, seed=seed, repeats=repeats)
    else:
        splits = query_folds(rows.queries, folds, seed=seed)
    written = [
        (str(out / str(number)), *write_split(out / str(number), parts, rows, said))
        for number, parts in enumerate(splits, start=1)
    ]
    print_table("splits", ("folder", "queries to train on", "queries to measure by"), written)

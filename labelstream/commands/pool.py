"""labelstream pool: several evaluations measured as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from labelstream.commands.evaluate import AtcOption, checked_decision, print_measures
from labelstream.schemas.settings import Settings


def pool(
    evaluations: Annotated[
        list[Path], typer.Argument(exists=True, file_okay=False, help="Folders of `labelstream evaluate`.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for metrics.json and predictions.parquet and .csv.")],
    decision: Annotated[str, typer.Option(help="From probabilities to a level: argmax or expected.")] = "argmax",
    atc: AtcOption = None,
    resamples: Annotated[int, typer.Option(min=100, help="Resamples of the queries, for the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.")] = 0,
) -> None:
    """Measure the predictions of several evaluations together, with 95 % intervals over all their queries.

    Each is of a model of its own, such as one for each part of `labelstream split`, so each ranks for itself. A query
    that several have answered is drawn with all their answers.
    """
    from labelstream.training.evaluation import write_evaluation
    from labelstream.training.pooled_evaluation import pool as measure

    rule: Any = checked_decision(decision)
    found = measure(evaluations, Settings.load().scale, rule=rule, cutoff=atc, seed=seed, resamples=resamples)
    write_evaluation(out, found.evaluation, found.table)
    print_measures(found.evaluation.metrics, out)

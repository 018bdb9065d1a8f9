"""labelstream evaluate: a model against human judgements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from labelstream.commands.answers import ask_cross_encoder, ask_labeller, ask_ranker, carts_of
from labelstream.commands.judgements import (
    CatalogueOption,
    JudgmentsOption,
    Layout,
    LayoutOption,
    PartOption,
    RatersOption,
    read_catalogue,
    read_judgements,
)
from labelstream.console import err, print_table
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import Settings

_SHOWN = ("kappa", "quadratic_kappa", "weighted_f1", "optimistic_bias", "expected_calibration_error")


AtcOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Also ATC@k: which share of the adds to cart, those that the lake has of the newest "
        "LABELSTREAM_RETRAIN_WINDOW_DAYS, is among a query's first k products. Only queries with more than k count.",
    ),
]


def evaluate(
    judgments: JudgmentsOption,
    out: Annotated[Path, typer.Option("--out", help="Folder for metrics.json and predictions.parquet and .csv.")],
    catalogue: CatalogueOption = None,
    raters: RatersOption = None,
    layout: LayoutOption = Layout.CHORUS,
    part: PartOption = None,
    labeller: Annotated[str | None, typer.Option(help="Folder or hub id of a labeller.")] = None,
    adapter: Annotated[str | None, typer.Option(help="LoRA adapter of the labeller, as name=folder.")] = None,
    cross_encoder: Annotated[
        str | None, typer.Option(help="Folder or hub id of a cross-encoder, or of a bi-encoder; 'packaged' for ours.")
    ] = None,
    ranker: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Folder of a ranker, or of a registry's version.")
    ] = None,
    decision: Annotated[str, typer.Option(help="From probabilities to a level: argmax or expected.")] = "argmax",
    atc: AtcOption = None,
    resamples: Annotated[int, typer.Option(min=100, help="Resamples of the queries, for the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.")] = 0,
) -> None:
    """Measure a labeller, a cross-encoder or a ranker on judgements that it has not seen, with 95 % intervals.

    Every single prediction is written beside the metrics, so that anybody can compute them again.
    """
    from labelstream.training.durable_files import require_folder
    from labelstream.training.evaluation import evaluate as measure
    from labelstream.training.evaluation import write_evaluation
    from labelstream.training.predictions import predictions_table

    settings = Settings.load()
    rule: Any = checked_decision(decision)
    if sum(model is not None for model in (labeller, cross_encoder, ranker)) != 1:
        raise SettingsError("name one model to measure: --labeller, --cross-encoder or --ranker")
    if adapter is not None and labeller is None:
        raise SettingsError("--adapter: only a --labeller has one; leave the option out")
    judged = read_judgements(judgments, catalogue, raters, layout, settings.scale, part)
    carts: dict[str, Any] = {} if atc is None else {"add_to_carts": carts_of(judged, settings)}
    cutoff: dict[str, Any] = {} if atc is None else {"cutoff": atc}
    require_folder(out)
    err.print(f"asking the model about {len(judged):,} pairs …")
    if labeller is not None:
        answers = ask_labeller(judged, settings, labeller, adapter)
    elif cross_encoder is not None:
        answers = ask_cross_encoder(judged, settings, cross_encoder)
    else:
        products = list(read_catalogue(catalogue, layout) if catalogue else judged.products)
        answers = ask_ranker(judged, products, settings, Path(str(ranker)))
    probabilities, scores = answers
    table = predictions_table(judged, probabilities, settings.scale, scores=scores, rule=rule, **carts)
    found = measure(judged, probabilities, settings.scale, scores=scores, rule=rule, seed=seed, resamples=resamples,
                    **carts, **cutoff)  # fmt: skip
    write_evaluation(out, found, table)
    print_measures(found.metrics, out)


def checked_decision(decision: str) -> str:
    """The rule of ``--decision``.

    Raises:
        SettingsError: There is no such rule.
    """
    if decision not in ("argmax", "expected"):
        raise SettingsError(f"--decision {decision}: choose argmax or expected")
    return decision


def print_measures(metrics: dict[str, Any], out: Path) -> None:
    """Say what was measured and where it is."""
    shown = {name: (metrics["labels"] or {}).get(name) for name in _SHOWN} | metrics["ranking"]
    rows = [(name.replace("_", " "), *_cells(measure)) for name, measure in shown.items() if measure]
    print_table(
        f"{metrics['data']['pairs']:,} pairs, {metrics['data']['queries']:,} queries", ("", "value", "95 %"), rows
    )
    if metrics["humans"]:
        err.print("the humans among themselves are in metrics.json under humans")
    err.print(f"written to {out}: metrics.json, predictions.parquet, predictions.csv", soft_wrap=True)


def _cells(measure: dict[str, float | None]) -> tuple[str, str]:
    value, low, high = (measure[name] for name in ("value", "low", "high"))
    return _number(value), f"{_number(low)} to {_number(high)}"


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"

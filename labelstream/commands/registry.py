"""labelstream models: what the registry of rankers holds, and who is champion."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelstream.console import out, print_facts, print_table
from labelstream.printable import printable
from labelstream.schemas.errors import ModelUnusable, SettingsError
from labelstream.schemas.settings import Settings
from labelstream.training.manifest import RANKER

if TYPE_CHECKING:
    from labelstream.training.manifest import Manifest
    from labelstream.training.registry import Entry, Registry

models = typer.Typer(
    name="models",
    no_args_is_help=True,
    help="Versions of the ranker: which one is champion, promotion by hand, and the way back.",
)

Folder = Annotated[
    Path | None, typer.Option("--registry", help="Folder of the registry; left out, LABELSTREAM_REGISTRY_FOLDER.")
]
Version = Annotated[str, typer.Argument(help="As `models list` shows it.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why, for those who read the history.")]


@models.command("list")
def list_versions(folder: Folder = None) -> None:
    """All versions, oldest first, with their figures, and where one rollback after another leads to."""
    registry = _registry(folder)
    path = registry.history(RANKER).rollback_path
    rows = [
        (m.version, _time(m.created_at), _standing(m.version, path), m.origin.data.snapshot, _figures(m.metrics))
        for m in registry.versions(RANKER)
    ]
    print_table("ranker versions", ("version", "created", "", "snapshot", "metrics"), rows)


@models.command()
def show(version: Version, folder: Folder = None) -> None:
    """One version: what it was made from, how well it did, its files and its history."""
    registry = _registry(folder)
    manifest = registry.manifest(RANKER, version)
    print_facts(f"ranker {version}", _facts(manifest))
    print_facts("settings", _flat(manifest.origin.settings))
    print_facts("metrics", _flat(manifest.metrics))
    files = [(name, file.size, file.sha256) for name, file in manifest.files.items()]
    print_table("files", ("file", "bytes", "sha256"), files)
    steps = [r for r in registry.history(RANKER).records if version in (r.version, r.previous, *r.pruned)]
    print_table(
        "history", ("step", "action", "at", "champion", "before", "reason"),
        [(r.number, r.action, _time(r.at), r.version, r.previous, r.reason) for r in steps],
    )  # fmt: skip


@models.command()
def promote(version: Version, folder: Folder = None, reason: Reason = "promoted by hand") -> None:
    """Make a version the champion, past the gate. Serving picks it up by itself."""
    registry = _registry(folder)
    current = registry.champion(RANKER)
    expected = current.version if current else None
    _print_champion(registry.promote(RANKER, version, expected=expected, reason=reason))


@models.command()
def rollback(
    folder: Folder = None,
    reason: Reason = "rolled back by hand",
    unwanted: Annotated[
        str | None,
        typer.Option("--from", help="The champion to get rid of: nothing happens if somebody has done it already."),
    ] = None,
) -> None:
    """Go back to the champion before this one; again goes back further. `models promote` is the way forward."""
    _print_champion(_registry(folder).rollback(RANKER, reason, expected=unwanted))


@models.command()
def verify(
    version: Annotated[str | None, typer.Argument(help="One version; all without it.", show_default=False)] = None,
    folder: Folder = None,
) -> None:
    """Compare files with manifests, every byte of them; exit code 1 where something has changed."""
    registry = _registry(folder)
    found = {name: registry.verify(RANKER, name) for name in ([version] if version else registry.names(RANKER))}
    rows = [(name, "; ".join(wrong) or "as it was added") for name, wrong in found.items()]
    print_table("ranker versions", ("version", "files"), rows)
    if damaged := [name for name, wrong in found.items() if wrong]:
        raise ModelUnusable(f"damaged: {', '.join(damaged)}; delete their folders and train them again")


@models.command()
def prune(
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest to keep, and how many rollbacks.")] = 5,
    folder: Folder = None,
) -> None:
    """Delete old versions; the champion, and those that rollbacks lead to, stay."""
    gone = _registry(folder).prune(RANKER, keep=keep)
    print_table("ranker versions", ("deleted",), [(version,) for version in gone])


def _registry(given: Path | None) -> Registry:
    from labelstream.training.registry import Registry

    folder = given or Settings.load().registry.folder
    if not folder.is_dir():
        raise SettingsError(f"--registry {folder}: there is no such folder; `labelstream retrain` makes it")
    return Registry(folder)


def _standing(version: str, path: tuple[str, ...]) -> str:
    if version not in path:
        return ""
    steps = path.index(version)
    return "champion" if steps == 0 else "next rollback" if steps == 1 else f"rollback {steps}"


def _facts(manifest: Manifest) -> dict[str, Any]:
    origin = manifest.origin
    return {
        "created": _time(manifest.created_at),
        "lake": origin.data.lake,
        "snapshot": origin.data.snapshot,
        "rows": _figures(origin.data.rows),
        **{f"read {name}": sha256 for name, sha256 in origin.data.sources.items()},
        "labelstream": origin.code.package,
        "commit": origin.code.commit,
        "seed": origin.seed,
        "made from": ", ".join(origin.parents),
    }


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _figures(values: dict[str, Any]) -> str:
    """The numbers of a flat mapping on one line; ``show`` has the rest."""
    numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
    return ", ".join(f"{name} {printable(value)}" for name, value in numbers.items())


def _flat(values: Any, name: str = "") -> dict[str, Any]:
    """Nested names joined by dots."""
    if not isinstance(values, dict):
        return {name: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{name}.{key}" if name else key)
    return flat


def _print_champion(champion: Entry) -> None:
    out.print(f"ranker champion: {champion.version} (before: {champion.previous or 'none'})")

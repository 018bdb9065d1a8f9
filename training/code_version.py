"""Which code makes a model, for its manifest."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import version as package_version
from pathlib import Path

from labelstream.training.manifest import CodeVersion

CHECKOUT = Path(__file__).resolve().parent.parent

# The whole hash of the newest commit, with -dirty where a file that git knows is another one now.
_DESCRIBE = ("git", "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty")
_PATIENCE_S = 10.0


def code_version(built_from: str = "", *, checkout: Path = CHECKOUT) -> CodeVersion:
    """The version of labelstream, and the commit where it is known.

    Args:
        built_from: What an image was built from; empty to ask git.
        checkout: The folder that the code runs from.
    """
    return CodeVersion(package=package_version("labelstream"), commit=built_from or _commit_of(checkout))


def _commit_of(checkout: Path) -> str | None:
    """Of a checkout; None of an installed package, without git, or where git does not answer."""
    if not (checkout / ".git").exists():
        return None
    # Who runs us may be a hook of git, which names its own repository; and git must not look further up for another.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    ours |= {"GIT_CEILING_DIRECTORIES": str(checkout.parent), "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            _DESCRIBE, cwd=checkout, env=ours, capture_output=True, text=True, check=True, timeout=_PATIENCE_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None

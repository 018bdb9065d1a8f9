"""A ranker for the learning-to-rank plugin of Elasticsearch and OpenSearch, as ``model/xgboost+json``.

The facts below are from the plugin's sources (``XGBoostJsonParser``, ``NaiveAdditiveDecisionTree``):

- **Form**: ``{"objective": "rank:ndcg", "splits": [tree, …]}``; a split is ``{nodeid, depth, split, split_condition,
  yes, no, missing, children: [yes, no]}`` and a leaf ``{nodeid, leaf}``. Any other field is refused. ``split`` is the
  name of a feature of the feature set, which must therefore bear our names.
- **Comparison**: ``split_condition > value`` goes to ``yes``, in single precision, as in XGBoost; a value that equals
  the threshold goes to ``no``. Thresholds are written so that they read back to the very same float32.
- **base_score**: the plugin adds up leaves and knows of no base score. Where a model's is not 0 (ours is), it is
  exported as one more tree, a single leaf, so that scores and not only their order agree.
- **Missing values**: a feature whose query does not match has no value. Old plugins take it as 0, later ones always go
  to ``no``, only the newest follow ``missing`` as XGBoost does. Give every feature a value
  for every document (a ``function_score`` or ``script_score`` query), or use a plugin that follows ``missing``.

A plugin that has ``model/xgboost+json+raw`` takes the native JSON, the ranker's own ``model.json``, as it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from labelstream.training.durable_files import whole_file
from labelstream.training.ranker import Ranker

Node = dict[str, Any]

LTR_TYPE = "model/xgboost+json"

_SPLIT_FIELDS = ("nodeid", "depth", "split", "yes", "no", "missing")


def ltr_definition(ranker: Ranker) -> dict[str, Any]:
    """The trees in the form of the plugin."""
    trees = [_node(json.loads(tree)) for tree in ranker.booster.get_dump(dump_format="json")]
    base = _base_score(ranker)
    constant = [{"nodeid": 0, "leaf": base}] if base else []
    return {"objective": "rank:ndcg", "splits": [*trees, *constant]}


def ltr_model(ranker: Ranker, name: str) -> dict[str, Any]:
    """The body of ``POST _ltr/_featureset/<feature set>/_createmodel``.

    Args:
        ranker: To be exported.
        name: What the search engine is to call it.
    """
    definition = json.dumps(ltr_definition(ranker), separators=(",", ":"))
    return {"model": {"name": name, "model": {"type": LTR_TYPE, "definition": definition}}}


def write_ltr_model(path: Path, ranker: Ranker, name: str) -> None:
    """Write :func:`ltr_model` to a file; readers see the whole file or the one before it.

    Raises:
        SettingsError: The file may not be written.
        TransientError: The disk is full, or does not answer.
    """
    with whole_file(path) as file:
        file.write(json.dumps(ltr_model(ranker, name), ensure_ascii=False).encode() + b"\n")


def _node(dumped: Node) -> Node:
    """One node of XGBoost's dump, with the plugin's fields and no others, children in the order that it asks for."""
    if "leaf" in dumped:
        return {"nodeid": dumped["nodeid"], "leaf": _single(dumped["leaf"])}
    children = {child["nodeid"]: _node(child) for child in dumped["children"]}
    return {name: dumped[name] for name in _SPLIT_FIELDS} | {
        "split_condition": _single(dumped["split_condition"]),
        "children": [children[dumped["yes"]], children[dumped["no"]]],
    }


def _single(number: float) -> float:
    """The float32 as a double: seventeen digits say it exactly, whichever way the reader rounds."""
    return float(np.float32(number))


def _base_score(ranker: Ranker) -> float:
    parameters = json.loads(ranker.booster.save_config())["learner"]["learner_model_param"]
    return float(np.sum(json.loads(parameters["base_score"])))  # "[0E0]", and "0E0" in older versions

"""The ranker's features: which there are, what they mean, and how a table of them is made. Their names live here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.product import Product
from labelstream.schemas.scale import Floats
from labelstream.training.judgments import Integers, number_queries
from labelstream.training.lexical import LexicalIndex

Group = Literal["cross_encoder", "lexical", "text", "price", "engagement"]
Column = NDArray[np.float32] | Floats

GROUPS: tuple[Group, ...] = get_args(Group)
ACTIONS = ("impressions", "clicks", "add_to_carts", "purchases")

# An action rate is actions / (impressions + this): a pair that was hardly ever shown is not a star for one click.
_PRIOR_IMPRESSIONS = 10.0


class Feature(NamedTuple):
    """One column. Names are stable: saved models and the feature sets of a search engine refer to them."""

    name: str
    group: Group
    meaning: str


def _history(name: str, of: str) -> list[Feature]:
    counts = [Feature(f"{name}_{action}", "engagement", f"log(1 + {action} of {of})") for action in ACTIONS]
    rates = [
        Feature(f"{name}_{action}_rate", "engagement", f"{action} of {of} / (its impressions + {_PRIOR_IMPRESSIONS:g})")
        for action in ACTIONS[1:]
    ]
    return counts + rates


FEATURES: tuple[Feature, ...] = (
    Feature("cross_encoder_score", "cross_encoder", "score of the cross-encoder for query and product"),
    Feature("bm25_title", "lexical", "BM25 of the query against the title"),
    Feature("bm25_text", "lexical", "BM25 of the query against all text of the product"),
    Feature("query_share_in_title", "lexical", "share of the query's words that the title has"),
    Feature("query_share_in_text", "lexical", "share of the query's words that the product's text has"),
    Feature("phrase_in_title", "lexical", "1 where the title has the whole query, word for word"),
    Feature("number_tokens_found", "lexical", "words with a digit in the query that the product's text has"),
    Feature("number_tokens_missed", "lexical", "words with a digit in the query that the product's text lacks"),
    Feature("query_tokens", "text", "words of the query"),
    Feature("title_tokens", "text", "words of the title"),
    Feature("text_tokens", "text", "words of all text of the product"),
    Feature("price", "price", "log(1 + price); missing where the catalogue has none"),
    Feature("price_to_median", "price", "price less the median of the query's products in the table, both as logs"),
    *_history("pair", "this query and product before the evaluation window"),
    *_history("product", "this product over all queries before the evaluation window"),
)

_GROUP_OF: dict[str, Group] = {feature.name: feature.group for feature in FEATURES}


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of pairs.

    Attributes:
        names: Of the columns.
        values: float32, shape (pairs, features); NaN is missing.
    """

    names: tuple[str, ...]
    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.values.dtype != np.float32 or self.values.ndim != 2 or self.values.shape[1] != len(self.names):  # noqa: PLR2004
            shape = f"{self.values.dtype} of shape {self.values.shape}"
            raise ValueError(f"values must be float32, one column for each of {len(self.names)} names, got {shape}")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"two features have one name: {list(self.names)}")
        if len(infinite := np.argwhere(np.isinf(self.values))):
            pair, column = infinite[0]
            raise SettingsError(
                f"feature {self.names[column]}: infinite for pair {pair}; give a number, or NaN for none"
            )

    def __len__(self) -> int:
        return len(self.values)

    def select(self, pairs: Integers) -> Self:
        """The pairs at these positions, in this order."""
        return type(self)(self.names, self.values[pairs])

    def only(self, names: Sequence[str]) -> Self:
        """The columns of these names, in this order: those that a ranker was trained on.

        Raises:
            SettingsError: The table lacks one.
        """
        if missing := [name for name in names if name not in self.names]:
            raise SettingsError(f"no feature is called {', '.join(missing)}; there are {', '.join(self.names)}")
        return type(self)(tuple(names), self.values[:, [self.names.index(name) for name in names]])

    def without(self, *groups: str) -> Self:
        """The table of an ablation; groups that it does not have anyway may be named.

        Args:
            groups: Of ``GROUPS``.

        Raises:
            SettingsError: There is no such group, or no feature is left.
        """
        if unknown := sorted(set(groups) - set(GROUPS)):
            raise SettingsError(f"no group of features is called {', '.join(unknown)}; there are {', '.join(GROUPS)}")
        kept = [column for column, name in enumerate(self.names) if _GROUP_OF.get(name) not in groups]
        if not kept:
            raise SettingsError(f"without {', '.join(groups)} no feature is left; keep a group")
        return type(self)(tuple(self.names[column] for column in kept), self.values[:, kept])


@dataclass(frozen=True, eq=False)
class EngagementHistory:
    """What shoppers did before an evaluation window; see ``training.ranking_data`` for its reader.

    Attributes:
        until: The first day that does not count, in UTC.
        pair: Counts of ``ACTIONS`` for each pair; shape (pairs, 4).
        product: Counts of ``ACTIONS`` for each pair's product over all queries; shape (pairs, 4).
    """

    until: date
    pair: Integers
    product: Integers


def build_features(
    queries: Sequence[str],
    products: Sequence[Product],
    index: LexicalIndex,
    *,
    cross_encoder_scores: Column | None = None,
    history: EngagementHistory | None = None,
) -> FeatureTable:
    """Make the table of features.

    Everything but ``price_to_median`` depends on its own pair alone; that one compares with the products of the same
    query among these pairs, so a query's pairs belong into one call.

    Args:
        queries: Of each pair; spellings that normalise to the same are one query.
        products: Of each pair; they need not be in the catalogue.
        index: The words of the whole catalogue.
        cross_encoder_scores: Shape (pairs,), NaN where there is none; None leaves the group out.
        history: Of each pair; None leaves the group out.

    Returns:
        The columns in the order of ``FEATURES``.

    Raises:
        SettingsError: A score is infinite.
        ValueError: The arguments are not of one length.
    """
    columns: dict[str, Column] = {}
    if cross_encoder_scores is not None:
        columns["cross_encoder_score"] = cross_encoder_scores
    columns |= index.statistics(queries, products)._asdict()
    columns |= _prices(queries, products)
    if history is not None:
        columns |= _history_columns("pair", history.pair) | _history_columns("product", history.product)
    wrong = [name for name, column in columns.items() if np.shape(column) != (len(queries),)]
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: must have one entry for each of the {len(queries)} pairs")
    names = tuple(feature.name for feature in FEATURES if feature.name in columns)
    return FeatureTable(names, np.stack([columns[name] for name in names], axis=1).astype(np.float32))


def _prices(queries: Sequence[str], products: Sequence[Product]) -> dict[str, Column]:
    prices = np.log1p([np.nan if product.price is None else product.price for product in products])
    numbers, relative = number_queries(queries), np.full(len(prices), np.nan)
    priced = np.flatnonzero(~np.isnan(prices))
    order = priced[np.argsort(numbers[priced], kind="stable")]
    for pairs in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
        if len(pairs):
            relative[pairs] = prices[pairs] - np.median(prices[pairs])
    return {"price": prices, "price_to_median": relative}


def _history_columns(name: str, counts: Integers) -> dict[str, Column]:
    impressions, *actions = np.asarray(counts, np.float64).reshape(-1, len(ACTIONS)).T
    columns: dict[str, Column] = {f"{name}_impressions": np.log1p(impressions)}
    for action, done in zip(ACTIONS[1:], actions, strict=True):
        columns[f"{name}_{action}"] = np.log1p(done)
        columns[f"{name}_{action}_rate"] = done / (impressions + _PRIOR_IMPRESSIONS)
    return columns

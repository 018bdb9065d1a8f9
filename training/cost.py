"""How long a million labels take: here as measured, on one H100 by a formula, with and without the cache of labels.

The formula for a GPU is a bound on compute, and every row says so: reading a prompt (prefill) takes about 2 operations
for each parameter and token, so tokens/s = utilisation · peak FLOP/s / (2 · parameters).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from labelstream.schemas.errors import SettingsError
from labelstream.training.report_inputs import Cost, CostRow

if TYPE_CHECKING:
    from labelstream.streaming.lake import Lake

FORMULA = (
    "hours = 1e6 / (pairs per second) / 3600. With the cache, pairs per second = those of new pairs / (1 - share of "
    "known pairs): a look-up is taken as free. On a GPU, pairs per second = utilisation x peak FLOP/s / (2 x "
    "parameters) / tokens computed for a pair."
)

MODELS = {"1 B": 1e9, "7 B": 7e9}  # parameters
H100_FLOPS = 989.4e12  # bf16 on tensor cores, dense: https://glennklockwood.com/garden/processors/h100
# Prefill reaches 30 to 50 % of the peak: https://zeroentropy.dev/concepts/mfu/ (2026)
UTILISATION = 0.4
TOKENS = 150
LONGEST_PAUSE_S = 30.0
_LEAST, _MOST = 1e-6, 1e12  # beyond these nobody measured anything, and the hours would be 0 or without end


class Seen(NamedTuple):
    """What a lake says of the stream that filled it.

    Attributes:
        pairs_per_second: New pairs, over the time in which commits followed each other; None for a single commit.
        hit_share: Of all pairs, those that had a label already, in [0, 1); None where no pair was labelled.
    """

    pairs_per_second: float | None
    hit_share: float | None


def seen_in(lake: Lake) -> Seen:
    """Speed and share of known pairs, from the ``consumed`` table.

    A pair counts with the commit that it came in, so what the first commit after a pause took is not known: neither
    its pairs nor its time count.

    Raises:
        TransientError: The lake is locked or its storage does not answer.
    """
    totals = lake.totals()
    asked = totals["labelled"] + totals["cached"]
    labelled, seconds = lake.query(
        """
        WITH moments AS (SELECT committed_at, sum(labelled) AS labelled FROM consumed GROUP BY ALL),
        gaps AS (
            SELECT labelled, date_diff('microsecond', lag(committed_at) OVER (ORDER BY committed_at), committed_at)
                   / 1e6 AS seconds
            FROM moments
        )
        SELECT coalesce(sum(labelled), 0)::DOUBLE, coalesce(sum(seconds), 0)::DOUBLE FROM gaps WHERE seconds <= ?""",
        [LONGEST_PAUSE_S],
    )[0]
    speed = labelled / seconds if labelled and seconds else None
    return Seen(speed, totals["cached"] / asked if totals["labelled"] else None)


def h100_pairs_per_second(parameters: float, *, tokens: float = TOKENS, utilisation: float = UTILISATION) -> float:
    """New pairs that one H100 can judge in a second, by compute alone.

    Args:
        parameters: Of the model.
        tokens: Computed for a pair: query and product; vLLM's prefix cache keeps the instruction.
        utilisation: Share of the peak that is reached, in (0, 1].
    """
    return utilisation * H100_FLOPS / (2 * parameters) / tokens


def cost_table(
    pairs_per_second: float,
    source: str,
    *,
    hit_share: float = 0.0,
    hit_source: str = "",
    tokens: float = TOKENS,
    utilisation: float = UTILISATION,
) -> Cost:
    """The rows: this machine and an H100, each for new pairs, and with the cache where it helps.

    Args:
        pairs_per_second: New pairs, measured here.
        source: Where that figure is from.
        hit_share: Of all pairs of a log, those that have a label already.
        hit_source: Where that figure is from.
        tokens: See :func:`h100_pairs_per_second`.
        utilisation: See there.

    Raises:
        SettingsError: A figure is out of range.
    """
    _require(_LEAST <= pairs_per_second <= _MOST, "--pairs-per-second", pairs_per_second, f"{_LEAST:g} to {_MOST:g}")
    _require(0 <= hit_share < 1, "--hit-share", hit_share, "at least 0 and below 1")
    _require(_LEAST <= tokens <= _MOST, "--tokens-per-pair", tokens, f"{_LEAST:g} to {_MOST:g}")
    _require(_LEAST <= utilisation <= 1, "--utilisation", utilisation, f"{_LEAST:g} to 1")
    assumed = (
        f"estimate, not measured: {utilisation:.0%} of {H100_FLOPS / 1e12:.0f} TFLOP/s (bf16), {tokens:g} tokens a "
        "pair; small models are held up by the host before they get there. Prefill reaches 30 to 50 %: "
        "https://zeroentropy.dev/concepts/mfu/; peak: https://glennklockwood.com/garden/processors/h100"
    )
    kinds = [("this machine and its labeller", pairs_per_second, source)]
    kinds += [
        (f"one H100, {name} parameters", h100_pairs_per_second(size, tokens=tokens, utilisation=utilisation), assumed)
        for name, size in MODELS.items()
    ]
    rows = []
    for what, speed, where in kinds:
        rows.append(_row(f"{what}, new pairs", speed, where))
        if hit_share:
            known = f"{where}; {hit_share:.1%} of the pairs known already: {hit_source}"
            rows.append(_row(f"{what}, with the cache", speed / (1 - hit_share), known))
    return Cost(rows=rows, formula=FORMULA)


def _row(what: str, speed: float, source: str) -> CostRow:
    return CostRow(what=what, pairs_per_second=speed, hours_per_million=1e6 / speed / 3600, source=source)


def _require(holds: bool, name: str, value: float, wanted: str) -> None:
    if not holds:
        raise SettingsError(f"{name} {value:g}: must be {wanted}")

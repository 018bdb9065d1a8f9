"""The dashboard and the alerts against the list of metrics, with a parser of PromQL that knows its types."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from labelstream.actors.metric_list import HTTP_METRICS, METRICS, SHARED_METRICS, markdown_table
from labelstream.schemas.tables import OUTCOMES
from labelstream.training.registry import KINDS

ROOT = Path(__file__).resolve().parent.parent
DASHBOARD = json.loads((ROOT / "k8s/observability/labelstream-dashboard.json").read_text())
RULES = yaml.safe_load((ROOT / "k8s/observability/prometheus-rules.yaml").read_text())

PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ALERTS = [rule for group in RULES["spec"]["groups"] for rule in group["rules"]]
EXPRESSIONS = {
    **{f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]},
    **{rule["alert"]: rule["expr"] for rule in ALERTS},
    **{note["name"]: note["expr"] for note in DASHBOARD["annotations"]["list"]},
}
LABELS = {
    name: {*metric.labels, "le"} if metric.kind == "histogram" else set(metric.labels)
    for metric in METRICS
    for name in metric.samples
}
KINDS_OF_SERIES = {name: metric.kind for metric in METRICS for name in metric.samples}
VALUES = {"outcome": {*OUTCOMES, "error", "ranked"} - {"waiting"}, "kind": {*KINDS, "label", "rerank"}}
PER_TIME = {"rate", "increase"}
SHARED = {name for metric in SHARED_METRICS for name in metric.samples}

each_expression = pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])


def nodes(expression: str) -> list[Any]:
    """The nodes of an expression; one that does not parse, or whose types do not fit, is an error."""
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(expression), found.append)
    return found


def selectors(expression: str) -> list[Any]:
    return [node for node in nodes(expression) if isinstance(node, promql_parser.VectorSelector)]


@pytest.mark.parametrize("wrong", ["sum(rate(x[5m])", "rate(x)", "sum by route (x)", "x{a=b}", ""])
def test_the_parser_sees_what_is_wrong(wrong: str):
    with pytest.raises(ValueError, match=r".+"):
        nodes(wrong)


@each_expression
def test_every_metric_and_label_is_one_of_ours(expression: str):
    found = selectors(expression)
    assert found
    for selector in found:
        for matcher in selector.matchers.matchers:
            assert matcher.name in LABELS[selector.name]
            if matcher.name in VALUES:
                assert set(matcher.value.split("|")) <= VALUES[matcher.name]


@each_expression
def test_what_is_grouped_by_is_a_label(expression: str):
    for node in nodes(expression):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            for selector in selectors(node.expr.prettify()):
                assert set(node.modifier.labels) <= LABELS[selector.name]


@each_expression
def test_counters_are_asked_for_their_rate_and_gauges_are_not(expression: str):
    ranged = set()
    for node in nodes(expression):
        if isinstance(node, promql_parser.Call) and node.func.name in PER_TIME:
            ranged |= {argument.vector_selector.name for argument in node.args}
    for name in {selector.name for selector in selectors(expression)}:
        assert (name in ranged) == (KINDS_OF_SERIES[name] != "gauge")


def aggregations(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every selector with the aggregations around it, the innermost first."""
    match node:
        case promql_parser.VectorSelector():
            yield node, above
        case promql_parser.MatrixSelector():
            yield node.vector_selector, above
        case promql_parser.AggregateExpr():
            yield from aggregations(node.expr, (node, *above))
        case promql_parser.BinaryExpr():
            yield from aggregations(node.lhs, above)
            yield from aggregations(node.rhs, above)
        case promql_parser.Call() if node.func.name != "absent":  # which is one series, of however many
            for argument in node.args:
                yield from aggregations(argument, above)
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
            yield from aggregations(node.expr, above)


def counts_every_pod(expression: str) -> bool:
    """Whether what each pod of the endpoint tells alike is shown, or added up, once a pod."""
    for selector, around in aggregations(promql_parser.parse(expression)):
        if selector.name in SHARED:
            if not around or str(around[0].op) not in {"max", "min"}:
                return True
            one_value = {
                matcher.name for matcher in selector.matchers.matchers if matcher.op == promql_parser.MatchOp.Equal
            }
            kept = set(around[0].modifier.labels) if around[0].modifier is not None else set()
            if len(around) > 1 and not LABELS[selector.name] - one_value <= kept:
                return True  # the largest of several series is all that is left to be added up
    return False


@each_expression
def test_what_every_pod_tells_alike_counts_once(expression: str):
    assert not counts_every_pod(expression)


@pytest.mark.parametrize(
    "wrong",
    [
        "labelstream_lag_records",
        "sum(rate(labelstream_records_total[5m]))",
        "sum by (model) (rate(labelstream_model_pairs_total[5m]))",
        "sum(max by (model) (rate(labelstream_model_pairs_total[5m])))",
        "max(labelstream_lag_records) + (-labelstream_waiting_events)",
    ],
)
def test_a_sum_over_pods_is_found(wrong: str):
    assert counts_every_pod(wrong)


def test_every_metric_is_watched_somewhere():
    shown = {selector.name for expression in EXPRESSIONS.values() for selector in selectors(expression)}
    # A version, and what stands behind another figure that is shown.
    beside = {
        "labelstream_build_info", "labelstream_batches_total", "labelstream_pairs_total",
        "labelstream_model_batches_total", "labelstream_retrain_passed",
    }  # fmt: skip
    assert {metric.name for metric in METRICS if not set(metric.samples) & shown} == beside


def legend_labels(legend: str) -> set[str]:
    return set(re.findall(r"{{(\w+)}}", legend))


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_explains_itself_and_names_its_lines(panel: dict[str, Any]):
    assert panel["description"].endswith(".")
    assert panel["datasource"]["uid"] == "${datasource}"
    for target in panel["targets"]:
        known = set.union(*(LABELS[selector.name] for selector in selectors(target["expr"])))
        assert legend_labels(target["legendFormat"]) <= known
        assert target["datasource"] == panel["datasource"]


def test_panels_have_their_own_place_and_number():
    everything = DASHBOARD["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    for one, other in combinations((panel["gridPos"] for panel in everything), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in everything)


@each_alert
def test_an_alert_says_what_to_do(alert: dict[str, Any]):
    assert alert["labels"]["severity"] in {"warning", "critical"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/deploy.md#alert-{alert['alert'].lower()}"
    known = set.union(*(LABELS[selector.name] for selector in selectors(alert["expr"])))
    assert set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["description"])) <= known


def test_alert_names_are_in_the_documents():
    text = (ROOT / "docs/observability.md").read_text()
    named = re.findall(r"^\| `(Labelstream\w+)` \|", text, re.MULTILINE)
    assert named == [alert["alert"] for alert in ALERTS]


def test_the_table_of_metrics_is_what_the_code_says():
    text = (ROOT / "docs/observability.md").read_text()
    assert markdown_table() in text, "paste the output of labelstream.actors.metric_list.markdown_table()"


def runbook_anchors() -> Iterator[str]:
    for heading in re.findall(r"^#+ (.+)$", (ROOT / "docs/deploy.md").read_text(), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_alert_has_its_runbook():
    wanted = {alert["annotations"]["runbook_url"].partition("#")[2] for alert in ALERTS}
    assert wanted <= set(runbook_anchors())


def test_http_metrics_have_a_replica():
    assert all("replica" in metric.labels for metric in HTTP_METRICS)

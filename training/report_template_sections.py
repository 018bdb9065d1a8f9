"""The sections of the report as Jinja macros; they use the smaller ones of ``report_template_parts``."""

from __future__ import annotations

_EVALUATIONS = """
{%- macro comparison(evaluations, rows, humans_agree, unsaid) -%}
{% call table("All measures, with their intervals below") %}
<thead><tr><th scope="col" class="text">measure</th><th scope="col" class="text">better is</th>
{% for one in evaluations %}
<th scope="col"><bdi>{{ one.name }}</bdi></th>
{% endfor %}
{% if humans_agree %}<th scope="col">raters</th>{% endif %}</tr></thead>
<tbody>
{% for row in rows %}
<tr><th scope="row">{{ row.name | measure_name }}</th><td class="text nowrap">{{ row.better }}</td>
{% for measure in row.measures %}
{% if measure %}{{ measured(measure) }}{% else %}<td>n/a</td>{% endif %}
{% endfor %}
{% if humans_agree %}<td class="value">{{ row.humans }}</td>{% endif %}</tr>
{% endfor %}
</tbody>
{% endcall %}
<p class="note">Intervals: {{ evaluations[0].metrics.method.get("interval", "how they were made is not said") }}.
Optimistic bias is the share of the errors that are upward; one half is none.
{{ "Raters: the lowest and the highest of two raters among themselves, on the pairs that both have rated; of NDCG, "
   "of each rater's own levels as a ranking, by the adjudicated rating that was made of them, which flatters people."
   if humans_agree else "" }}
{{ "Whether the add-to-carts behind ATC were counted or simulated is not said of " ~ unsaid | join(", ") ~ "."
   if unsaid else "" }}</p>
{%- endmacro -%}

{%- macro evaluation(one) -%}
{% set metrics = one.metrics %}
<h3 id="{{ one.id }}"><bdi>{{ one.name }}</bdi></h3>
{% if metrics.simulated %}{{ simulated_note() }}{% endif %}
<p>{{ metrics.data.pairs | whole }} pairs of {{ metrics.data.queries | whole }} queries:
{% for level, count in metrics.data.pairs_by_level.items() -%}
{{ count | whole }} {{ level | level_name }}{{ ", " if not loop.last else "." }}
{%- endfor %}</p>
{% if metrics.labels %}
<div class="beside uneven">
<div>
{{ confusion(metrics.labels.confusion, metrics.levels, "Confusion of this judge: pairs, and share of the row",
             "people", "judge") }}
{{ per_level(metrics) }}
</div>
<div>
{{ agreement(one) }}
</div>
</div>
<div class="beside figures">
{{ drawn(one.reliability, "Where the line lies below the dotted one, the judge is surer than it is right. ECE is the "
         "mean distance of the two, weighted by the pairs of each bin.") }}
{{ drawn(one.polarization, "What each preset makes of an expected score, over how many pairs have it. A steep curve "
         "where many pairs lie moves many labels.") }}
</div>
{{ mistakes(one) }}
{% else %}
<p class="note">It ranks and gives no probabilities of levels, so there is no confusion and no calibration to
show.</p>
{% if metrics.humans and not one.humans_elsewhere %}{{ agreement(one) }}{% endif %}
{% endif %}
{%- endmacro -%}

{%- macro agreement_cells(pairs, labels) -%}
<td>{{ pairs | whole }}</td>
{{ measured(labels.quadratic_kappa) }}{{ measured(labels.kappa) }}{{ measured(labels.weighted_f1) -}}
{{ measured(labels.accuracy) }}{{ measured(labels.optimistic_bias) }}
{%- endmacro -%}

{%- macro agreement(one) -%}
{% set metrics = one.metrics %}
{% call table("Agreement: this judge beside the humans" if metrics.labels else "Agreement of the humans") %}
{{ heads(["who", "pairs", "quadratic κ", "κ", "weighted F1", "accuracy", "optimistic bias"]) }}
<tbody>
{% if metrics.labels %}
<tr class="us"><th scope="row">judge<span class="between">against adjudicated</span></th>
{{ agreement_cells(metrics.data.pairs, metrics.labels) }}</tr>
{% endif %}
{% for human in metrics.humans %}
<tr><th scope="row">{{ human.rater | rater_name }}
<span class="between">against {{ human.reference | rater_name }}</span></th>
{{ agreement_cells(human.pairs, human) }}</tr>
{% endfor %}
</tbody>
{% endcall %}
{% if metrics.humans %}
<p class="note">The adjudicated level was made of what the raters said, so agreement with it flatters them. The fair
line to hold the judge against is that of the raters among themselves.</p>
<details><summary>Confusions of the humans</summary>
{% for human in metrics.humans %}
{{ confusion(human.confusion, metrics.levels, "Pairs, and share of the row", human.reference | rater_name,
             human.rater | rater_name) }}
{% endfor %}
</details>
{% else %}
<p class="note">Single raters are not known, so nothing can be said of how far humans agree.</p>
{% endif %}
{%- endmacro -%}

{%- macro per_level(metrics) -%}
{% call table("By level") %}
{{ heads(["level", "precision", "recall", "F1", "pairs"]) }}
<tbody>
{% for level in metrics.levels %}
{% set scores = metrics.labels.per_class[level] %}
<tr><th scope="row">{{ level | level_name }}</th>{{ measured(scores.precision) }}{{ measured(scores.recall) -}}
{{ measured(scores.f1) }}<td>{{ scores.support | whole }}</td></tr>
{% endfor %}
</tbody>
{% endcall %}
{%- endmacro -%}

{%- macro mistakes(one) -%}
{% if one.mistakes %}
{% call table("Where the judge is furthest from the people") %}
{{ heads(["query", "product", "people", "judge", "expected score"], text=(0, 1, 2, 3)) }}
<tbody>
{% for mistake in one.mistakes %}
<tr><td class="text query"><bdi>{{ mistake.query }}</bdi></td>
<td class="text"><bdi><code>{{ mistake.product_id }}</code></bdi></td>
<td class="text">{{ mistake.said | level_name }}</td><td class="text">{{ mistake.predicted | level_name }}</td>
<td>{{ mistake.expected_score | number }}</td></tr>
{% endfor %}
</tbody>
{% endcall %}
<p class="note">The judge may be wrong here, or the people. All pairs are in <code>predictions.csv</code> of the
evaluation’s folder.</p>
{% endif %}
{%- endmacro -%}
"""

_LEARNING = """
{%- macro tradeoff_section(tradeoff, drawings) -%}
{% if tradeoff.simulated %}{{ simulated_note() }}{% endif %}
<p>A ranker was trained for each polarization of the labels, on the catalogue <bdi>{{ tradeoff.catalogue }}</bdi>.
Content is measured by relevance labels, engagement by what shoppers add to their carts.</p>
<div class="beside">
{{ drawn(drawings.tradeoff, "Further right is better content, further up is better engagement. No other point beats "
         "one of the front on both.") }}
<div>
{% call table("The front, the chosen point and the baseline" ~ (" (simulated)" if tradeoff.simulated else "")) %}
{{ heads(["point", "α", "β", "content NDCG", "to baseline", "ATC", "to baseline"]) }}
<tbody>
{% for point in tradeoff.front_points %}
{{ outcome("front, chosen" if point == tradeoff.chosen_point else "front", point, tradeoff.baseline) }}
{% endfor %}
{% if tradeoff.chosen not in tradeoff.front %}
{{ outcome("chosen", tradeoff.chosen_point, tradeoff.baseline) }}
{% endif %}
<tr><th scope="row">baseline</th><td></td><td></td><td>{{ tradeoff.baseline.content_ndcg | number }}</td><td></td>
<td>{{ tradeoff.baseline.atc | number }}</td><td></td></tr>
</tbody>
{% endcall %}
<p>Chosen by this rule: {{ tradeoff.rule }}</p>
</div>
</div>
{%- endmacro -%}

{%- macro outcome(what, point, baseline) -%}
<tr{% if "chosen" in what %} class="us"{% endif %}><th scope="row">{{ what }}</th>
<td>{{ "%g" | format(point.alpha) }}</td><td>{{ "%g" | format(point.beta) }}</td>
<td>{{ point.content_ndcg | number }}</td><td>{{ (point.content_ndcg - baseline.content_ndcg) | signed }}</td>
<td>{{ point.atc | number }}</td><td>{{ (point.atc - baseline.atc) | signed }}</td></tr>
{%- endmacro -%}

{%- macro ablation_section(ablation, drawings) -%}
{% if ablation.simulated %}{{ simulated_note() }}{% endif %}
<p>Each line is a ranker trained on other labels, with all features or without those of the cross-encoder. Differences
are to <strong><bdi>{{ ablation.baseline }}</bdi></strong>.</p>
{{ drawn(drawings.ablation, "Difference to the baseline and its interval; the line in the middle is no difference.",
         "wide") }}
{% call table("Ablation" ~ (" (simulated)" if ablation.simulated else "")) %}
{{ heads(["training labels", "features", "content NDCG", "difference", "ATC", "difference"], text=(0, 1)) }}
<tbody>
{% for row in ablation.rows %}
<tr{% if row.name == ablation.baseline and row.features == "all" %} class="us"{% endif %}>
<th scope="row"><bdi>{{ row.name }}</bdi></th>
<td class="text nowrap">{{ row.features | features }}</td>
{{ measured(row.content_ndcg) }}{{ difference(row.content_ndcg_delta) -}}
{{ measured(row.atc) }}{{ difference(row.atc_delta) }}</tr>
{% endfor %}
</tbody>
{% endcall %}
<p class="note">* The interval of the difference leaves 0 out.</p>
{%- endmacro -%}
"""

_LABELS_AND_COST = """
{%- macro history_section(history, drawings) -%}
{% if history.days %}
<p>{{ (history.counts.sum() | int) | whole }} labels on {{ history.days | length }} days, from
{{ history.days[0] }} to {{ history.days[-1] }} (UTC), lake snapshot {{ history.snapshot }}.
{% if history.earlier_labels %}{{ history.earlier_labels | whole }} labels of earlier days are not shown.{% endif %}
{% if history.other_labels %}{{ history.other_labels | whole }} labels of other scales are left out.{% endif %}</p>
<div class="beside figures">
{{ drawn(drawings.mix, "How the labels of each day are spread over the levels, above how many there are.") }}
{% if drawings.drift %}
{{ drawn(drawings.drift, "Population stability index of each day’s mix against the same model’s first day.") }}
{% endif %}
</div>
{% call table("Drift by model") %}
{{ heads(["model", "labels", "first day", "days compared", "days with too few", "newest PSI", "highest PSI",
          "reading"]) }}
<tbody>
{% for model in history.drift %}
<tr><td class="text version"><bdi>{{ model.model_version }}</bdi></td><td>{{ model.labels | whole }}</td>
<td class="nowrap">{{ model.reference_day or "none" }}</td><td>{{ model.days | length }}</td>
<td>{{ model.days_too_few }}</td>
{% if model.psi %}
<td>{{ model.psi[-1] | number }}</td><td>{{ model.psi | max | number }}</td>
<td class="nowrap">{{ model.psi[-1] | reading }}</td>
{% else %}
<td>n/a</td><td>n/a</td><td>n/a</td>
{% endif %}</tr>
{% endfor %}
</tbody>
{% endcall %}
<p class="note">A day needs {{ drift_minimum }} labels of the model to be compared; the first day is the first that has
enough. The reading is that of the newest day: stable up to {{ worth_a_look }}, worth a look up to {{ moved }}, moved
above.
{{ "The figure shows the " ~ models_shown ~ " busiest models that can be compared."
   if history.drift | length > models_shown else "" }}</p>
<details><summary>Labels by day, as a table</summary>
{% call table("Labels by day") %}
{{ heads(["day (UTC)"] + (history.levels | map("level_name") | list) + ["all"]) }}
<tbody>
{% for day in history.days %}
{% set counts = history.counts[loop.index0].tolist() %}
<tr><th scope="row" class="nowrap">{{ day }}</th>
{% for count in counts %}<td>{{ count | whole }}</td>{% endfor %}
<td>{{ (counts | sum) | whole }}</td></tr>
{% endfor %}
</tbody>
{% endcall %}
</details>
{% else %}
<p>The lake has no labels of this scale yet (snapshot {{ history.snapshot }}
{%- if history.other_labels %}; {{ history.other_labels | whole }} labels of other scales are left out{% endif %}).</p>
{% endif %}
{%- endmacro -%}

{%- macro cost_section(cost) -%}
{% call table("Time to label a million pairs") %}
{{ heads(["what", "pairs per second", "hours for a million", "source"], text=(0, 3)) }}
<tbody>
{% for row in cost.rows %}
<tr><th scope="row"><bdi>{{ row.what }}</bdi></th><td>{{ row.pairs_per_second | number(1) }}</td>
<td>{{ row.hours_per_million | number(2) }}</td><td class="text query">{{ row.source }}</td></tr>
{% endfor %}
</tbody>
{% endcall %}
<p class="note">{{ cost.formula }}</p>
{%- endmacro -%}

{%- macro source_table(sources) -%}
{% call table("What this page was made of") %}
{{ heads(["what", "where", "SHA-256, first 16 digits"], text=(0, 1, 2)) }}
<tbody>
{% for source in sources %}
<tr><th scope="row"><bdi>{{ source.what }}</bdi></th>
<td class="text query"><bdi><code>{{ source.path }}</code></bdi></td>
<td class="text nowrap"><code>{{ source.digest }}</code></td></tr>
{% endfor %}
</tbody>
{% endcall %}
{%- endmacro -%}
"""

SECTIONS = _EVALUATIONS + _LEARNING + _LABELS_AND_COST

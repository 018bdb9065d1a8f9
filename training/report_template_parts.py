"""The tables and figures of the report as Jinja macros."""

from __future__ import annotations

from labelstream.training.report_template_sections import SECTIONS

_CELLS = """
{%- macro table(caption, class="") -%}
<div class="scroll" role="region" tabindex="0" aria-label="{{ caption }}">
<table{% if class %} class="{{ class }}"{% endif %}>
<caption><span>{{ caption }}</span></caption>
{{ caller() }}
</table>
</div>
{%- endmacro -%}

{%- macro heads(names, text=(0,)) -%}
<thead><tr>
{% for name in names %}
<th scope="col"{% if loop.index0 in text %} class="text"{% endif %}>{{ name }}</th>
{% endfor %}
</tr></thead>
{%- endmacro -%}

{%- macro measured(measure) -%}
<td class="value">{{ measure.value | number }}{{ between(measure) }}</td>
{%- endmacro -%}

{%- macro difference(measure) -%}
<td class="value">{{ measure.value | signed }}{% if measure is clear_difference %} <strong>*</strong>{% endif %}
{{- between(measure) }}</td>
{%- endmacro -%}

{%- macro between(measure) -%}
{%- set bounds = measure | interval -%}
{%- if bounds %} <span class="between">{{ bounds }}</span>{% endif -%}
{%- endmacro -%}

{%- macro drawn(drawing, caption, size="standard") -%}
<figure class="{{ size }}">
<div class="scroll" role="group" tabindex="0" aria-label="Figure: {{ caption }}">{{ drawing }}</div>
<figcaption>{{ caption }}</figcaption>
</figure>
{%- endmacro -%}

{%- macro simulated_note() -%}
<p class="simulated" role="note"><strong>Simulated.</strong> The figures of this section come from a simulation of
shoppers, not from real ones. They show that the machinery works, not what it would gain in a shop.</p>
{%- endmacro -%}

{%- macro confusion(rows, levels, caption, row_name, column_name) -%}
{% call table(caption, "confusion") %}
<thead><tr><th scope="col" class="text">{{ row_name }} ↓ &nbsp; {{ column_name }} →</th>
{% for level in levels %}
<th scope="col">{{ level | level_name }}</th>
{% endfor %}
<th scope="col">all</th></tr></thead>
<tbody>
{% for row in rows %}
{% set total = row | sum %}
<tr><th scope="row">{{ levels[loop.index0] | level_name }}</th>
{% set place = loop.index0 %}
{% for count in row %}
{% set share = count / total if total else None %}
<td style="--share: {{ "%.4f" | format(share or 0) }}"{% if loop.index0 == place %} class="right"{% endif %}>
{{- count | whole }}<span class="of">{{ share | percent }}</span></td>
{% endfor %}
<td style="--share: 0">{{ total | whole }}</td></tr>
{% endfor %}
</tbody>
{% endcall %}
{%- endmacro -%}
"""

MACROS = _CELLS + SECTIONS

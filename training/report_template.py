"""The page of the report as a Jinja template; every value is escaped by Jinja."""

from __future__ import annotations

from labelstream.training.report_template_parts import MACROS

PAGE = (
    MACROS
    + """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>labelstream report</title>
<style>{{ style }}</style>
</head>
<body>
<header>
<h1>labelstream report</h1>
<p class="lead">How good the relevance labels are, what they do to a ranker, and how they change over time.</p>
{% if simulated_sections %}
<p class="simulated" role="note"><strong>Some figures are simulated</strong>, not from real shoppers:
{{ simulated_sections | join(", ") }}. They are marked where they stand.</p>
{% endif %}
<nav aria-label="Sections"><ul>
{% for section in sections %}
<li><a href="#{{ section.id }}">{{ section.title }}</a></li>
{% endfor %}
</ul></nav>
</header>
<main>
{% if in_short %}
<h2 id="in-short">In short</h2>
<ul class="short">
{% for line in in_short %}
<li><strong><bdi>{{ line.what }}</bdi></strong>: {{ line.said }}</li>
{% endfor %}
</ul>
{% endif %}
{% if evaluations %}
<h2 id="judges">Judges against people</h2>
{{ comparison(evaluations, comparison_rows, humans_agree, unsaid) }}
{% for one in evaluations %}
{{ evaluation(one) }}
{% endfor %}
{% endif %}
{% if tradeoff %}
<h2 id="tradeoff">Content against engagement</h2>
{{ tradeoff_section(tradeoff, drawings) }}
{% endif %}
{% if ablation %}
<h2 id="ablation">What each part of the training labels is worth</h2>
{{ ablation_section(ablation, drawings) }}
{% endif %}
{% if history %}
<h2 id="labels">Labels over time</h2>
{{ history_section(history, drawings) }}
{% endif %}
{% if cost %}
<h2 id="cost">Cost</h2>
{{ cost_section(cost) }}
{% endif %}
<h2 id="sources">Sources</h2>
{{ source_table(sources) }}
</main>
<footer>
<p>Written by <code>labelstream report</code>. This page needs no network and runs no script.</p>
</footer>
</body>
</html>
"""
)

"""The looks of the report: light, dark and on paper."""

from __future__ import annotations

from labelstream.training.report_svg import COLOURS

_RULES = """
* { box-sizing: border-box; }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 82rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .25rem; letter-spacing: -.01em; }
h2 { font-size: 1.4rem; margin: 3rem 0 .75rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p, ul { max-width: 46rem; margin: .5rem 0 .9rem; overflow-wrap: anywhere; }
a { color: var(--link); }
nav ul { list-style: none; max-width: none; display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; padding: 0; }
.lead, figcaption, footer, .note { color: var(--muted); }
.note, figcaption, footer { font-size: .875rem; }
code { font-size: .875em; overflow-wrap: anywhere; }
.simulated { border-left: .3rem solid var(--orange); background: var(--surface); padding: .6rem .9rem; }
.short li { margin-bottom: .35rem; }
.beside { display: grid; gap: 1.25rem 2.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 29rem), 1fr));
  align-items: start; }
.beside > * { min-width: 0; }
.beside.uneven { grid-template-columns: minmax(0, 1fr); }
@media (min-width: 84rem) { .beside.uneven { grid-template-columns: auto minmax(0, 1fr); } }
.scroll { overflow-x: auto; max-width: 100%; margin: .75rem 0 1rem; }
.scroll:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
caption span { display: inline-block; max-width: calc(100vw - 2.5rem); }
th, td { padding: .32rem .8rem .32rem 0; text-align: right; vertical-align: baseline;
  border-bottom: 1px solid var(--rule); }
th { font-weight: 500; }
thead th { color: var(--muted); border-bottom-color: var(--muted); vertical-align: bottom; }
th[scope=row], .text { text-align: left; }
tbody th[scope=row] { min-width: 6.5rem; max-width: 22rem; overflow-wrap: break-word; }
tbody tr.us th, tbody tr.us td { background: var(--surface); font-weight: 600; }
.between { display: block; color: var(--muted); font-size: .8rem; font-weight: 400; white-space: nowrap; }
td.query { min-width: 12rem; max-width: 26rem; overflow-wrap: anywhere; }
td.version { min-width: 11rem; max-width: 20rem; overflow-wrap: anywhere; }
td.value, .nowrap, .nowrap code { white-space: nowrap; }
.confusion td { min-width: 4.6rem; padding: .5rem .4rem; text-align: center; border: 2px solid var(--paper);
  background: color-mix(in srgb, var(--blue) calc(var(--share) * 55%), var(--surface));
  -webkit-print-color-adjust: exact; print-color-adjust: exact; }
.confusion td.right { outline: 2px solid var(--ink); outline-offset: -4px; }
.confusion td .of { display: block; font-size: .8rem; }
.confusion th { padding-right: .7rem; border-bottom: 0; }
.confusion thead th { text-align: center; }
figure { margin: .75rem 0 1.25rem; }
figure .scroll { margin: 0; }
figure svg { display: block; width: 100%; height: auto; }
figure.standard { max-width: 36rem; } figure.standard svg { min-width: 20rem; }
figure.wide { max-width: 50rem; } figure.wide svg { min-width: 34rem; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
figure svg text { font-family: inherit !important; }
details { margin: .5rem 0 1rem; }
summary { cursor: pointer; color: var(--link); }
footer { padding-bottom: 3rem; }
@media (max-width: 40rem) {
  body { font-size: 15px; }
  header, main, footer { padding-left: 1rem; padding-right: 1rem; }
  h1 { font-size: 1.5rem; }
  h2 { font-size: 1.25rem; }
}
@media print {
  body { font-size: 10pt; }
  header, main, footer { max-width: none; padding: 0; }
  nav { display: none; }
  h2, h3, caption { break-after: avoid; }
  figure, tr, .simulated { break-inside: avoid; }
  figure.wide svg, figure.standard svg { min-width: 0; }
  .scroll { overflow: visible; }
  .beside.figures { grid-template-columns: 1fr 1fr; }
  th, td { padding-right: .5rem; }
}
"""


def style_sheet() -> str:
    """CSS of the whole page. Paper is always light."""
    light = "".join(f" --{colour.role}: {colour.light};" for colour in COLOURS)
    dark = "".join(f" --{colour.role}: {colour.dark};" for colour in COLOURS)
    return (
        f":root {{{light} --link: #0b5fa5; }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{{dark} --link: #7cc4ff; }} }}\n"
        f"{_RULES}"
    )

// The list of labels: a bar for each distribution, the scores, and errors beside what they are about.

import { byId, element, spoken } from "./dom.js";
import { polarize } from "./polarization.js";

const percent = new Intl.NumberFormat("en", { style: "percent" });
const COLOURS = 5; // level-0 (worst) to level-4 (best) in page.css

/** The class of a level's colour: a scale of two levels takes the outermost, one of five takes all. */
const colour = (level, levels) => `level-${Math.round((level * (COLOURS - 1)) / (levels - 1))}`;

/** A share as text; what is not nothing is not called 0%. */
const share = (value) => (value > 0 && value < 0.005 ? "<1%" : percent.format(value));

/** Rows of labels, in the order of the products. */
export class LabelList {
  #rows = [];
  #levels = [];

  /** Set the scale: names of the levels, worst first, and what each is worth. */
  showScale(levels, worths) {
    this.#levels = levels;
    const entries = levels.map((name, level) => {
      const worth = element("span", { class: "muted" }, String(worths[level]));
      return element("li", {}, swatch(level, levels.length), `${name} `, worth);
    });
    byId("legend").replaceChildren(...entries);
  }

  /** Begin anew, with a row for each product. */
  show(items) {
    this.#rows = items.map((item) => new Row(item));
    byId("label-rows").replaceChildren(...this.#rows.map((row) => row.root));
    byId("labels").hidden = false;
  }

  /** Show the answer for some of the products. */
  fill(items, curve) {
    for (const item of items) this.#rows[item.index].fill(item, this.#levels, curve);
  }

  /** Show other polarized scores. */
  polarize(curve) {
    for (const row of this.#rows) row.polarize(curve);
  }
}

class Row {
  #expected = null;
  #polarized = document.createTextNode("");
  #answer = element("div", { class: "waiting" }, "waiting");

  constructor(item) {
    const title = element("div", { class: "title", dir: "auto" }, item.title);
    const product = element("div", { class: "product" }, title);
    if (item.detail) product.append(element("div", { class: "muted small detail", dir: "auto" }, item.detail));
    const position = element("span", { class: "muted number", "aria-hidden": "true" }, String(item.index + 1));
    this.root = element("li", { class: "row", "data-index": item.index }, position, product, this.#answer);
  }

  fill(item, levels, curve) {
    this.#answer.remove();
    if (item.error) {
      this.root.append(element("p", { class: "fault" }, spoken("Error: "), item.error));
      return;
    }
    this.#expected = item.label.expected_score;
    this.root.append(
      distribution(item.label.probabilities, levels),
      element("span", { class: "number expected" }, spoken("expected "), this.#expected.toFixed(3)),
      element("span", { class: "number polarized" }, spoken("polarized "), this.#polarized),
      element("span", { class: "muted small" }, item.cached ? "cached" : "new"),
    );
    this.polarize(curve);
  }

  polarize(curve) {
    if (this.#expected !== null) this.#polarized.data = polarize(this.#expected, curve).toFixed(3);
  }
}

function swatch(level, levels) {
  return element("i", { class: `swatch ${colour(level, levels)}`, "aria-hidden": "true" });
}

function distribution(probabilities, levels) {
  const bar = element("div", { class: "bar", "aria-hidden": "true" });
  const texts = element("ul", { class: "shares small" });
  probabilities.forEach((probability, level) => {
    const name = levels[level] ?? `level ${level}`;
    const title = `${name} ${probability.toFixed(4)}`;
    const segment = element("i", { class: colour(level, probabilities.length), title });
    segment.style.flexGrow = probability;
    bar.append(segment);
    texts.append(element("li", {}, `${name} `, element("b", {}, share(probability))));
  });
  return element("div", { class: "distribution" }, bar, texts);
}

// The polarization curve with the products on it.

import { byId, svg } from "./dom.js";
import { polarize } from "./polarization.js";

const [LEFT, RIGHT, TOP, BOTTOM] = [30, 334, 8, 138];
const STEPS = 100;

const x = (score) => LEFT + score * (RIGHT - LEFT);
const y = (score) => BOTTOM - score * (BOTTOM - TOP);

/** Axes that stay, a curve and dots that move with it. */
export class Curve {
  #root = byId("curve");
  #line = svg("path", { class: "line" });
  #centre = svg("path", { class: "centre" });
  #dots = svg("g", { class: "dots" });
  #worths = svg("g", { class: "worths" });
  #shown = []; // scores of the dots

  constructor() {
    this.#root.append(...gridLines(), this.#worths, this.#centre, this.#line, this.#dots);
  }

  /** Mark what each level is worth on the axis. */
  showWorths(worths) {
    this.#worths.replaceChildren(
      ...worths.map((worth) => svg("path", { d: `M${x(worth)} ${BOTTOM}v5` })),
    );
  }

  /**
   * Show a dot for each product that has a label; ``draw`` puts it on the curve.
   *
   * @param {import("./products.js").Item[]} items
   */
  showProducts(items) {
    const labelled = items.filter((item) => item.label);
    this.#shown = labelled.map((item) => item.label.expected_score);
    this.#dots.replaceChildren(...labelled.map(dot));
  }

  /** @param {{alpha: number | null, beta: number | null}} curve */
  draw(curve) {
    const scores = Array.from({ length: STEPS + 1 }, (_, step) => step / STEPS);
    this.#line.setAttribute("d", `M${scores.map((score) => point(score, curve)).join("L")}`);
    this.#centre.setAttribute("d", curve.alpha === null ? "" : `M${x(curve.beta)} ${TOP}V${BOTTOM}`);
    const heights = this.#shown.map((score) => y(polarize(score, curve)).toFixed(1));
    heights.forEach((height, position) => this.#dots.children[position].setAttribute("cy", height));
    const formula = curve.alpha === null ? "scores kept as they are" : `α ${curve.alpha}, β ${curve.beta}`;
    byId("curve-title").textContent = `Polarized over expected score: ${formula}; ${heights.length} products`;
  }
}

function point(score, curve) {
  return `${x(score).toFixed(1)} ${y(polarize(score, curve)).toFixed(1)}`;
}

function dot(item) {
  const cx = x(item.label.expected_score).toFixed(1);
  return svg("circle", { cx, r: 4, "data-index": item.index }, svg("title", {}, item.title));
}

function gridLines() {
  const marks = [0, 0.5, 1];
  return [
    svg("path", { class: "same", d: `M${x(0)} ${y(0)}L${x(1)} ${y(1)}` }),
    ...marks.map((mark) => svg("path", { class: "grid", d: `M${LEFT} ${y(mark)}H${RIGHT}` })),
    ...marks.map((mark) => svg("text", { x: LEFT - 6, y: y(mark) + 4, "text-anchor": "end" }, String(mark))),
    ...marks.map((mark) => svg("text", { x: x(mark), y: BOTTOM + 18, "text-anchor": "middle" }, String(mark))),
    svg("text", { x: x(0.5), y: BOTTOM + 31, "text-anchor": "middle" }, "expected score → polarized score"),
  ];
}

// The ranking before and after, side by side.

import { byId, element, spoken } from "./dom.js";

/**
 * Order products: best score first, equal ones as they came, those without a score last.
 *
 * @param {import("./products.js").Item[]} items
 * @param {(item: import("./products.js").Item) => number | null} score
 * @returns {{item: import("./products.js").Item, score: number | null}[]}
 */
export function inOrder(items, score) {
  const scored = items.map((item) => ({ item, score: score(item) }));
  return scored.sort((a, b) => (b.score ?? -1) - (a.score ?? -1)); // sort is stable
}

/** Two lists: as pasted, and as ranked. */
export class RankingView {
  #shown = "";
  #scores = [];

  /** Show the products as they were pasted. */
  showBefore(items) {
    byId("before").replaceChildren(...items.map((item) => place(item, item.index, [])));
    byId("ranking").hidden = false;
    this.#shown = "";
  }

  /** Show the products as ranked; ``by`` says by what. */
  showAfter(ranked, by) {
    byId("after-by").textContent = by;
    const order = ranked.map(({ item, score }) => (score === null ? `-${item.index}` : item.index)).join();
    if (order !== this.#shown) this.#rebuild(ranked);
    this.#shown = order;
    ranked.forEach(({ score }, position) => {
      this.#scores[position].textContent = score === null ? "–" : score.toFixed(3);
    });
  }

  /** Nothing to show until an answer comes. */
  clearAfter(by) {
    byId("after-by").textContent = by;
    byId("after").replaceChildren();
    this.#shown = "";
  }

  #rebuild(ranked) {
    this.#scores = ranked.map(() => element("span", { class: "number" }));
    const places = ranked.map(({ item, score }, position) => {
      const moved = score === null ? [] : [movement(item.index - position)];
      return place(item, position, [...moved, this.#scores[position]]);
    });
    byId("after").replaceChildren(...places);
  }
}

function place(item, position, extras) {
  const number = element("span", { class: "muted number", "aria-hidden": "true" }, String(position + 1));
  const title = element("span", { class: "title", title: item.title, dir: "auto" }, item.title);
  return element("li", { "data-index": item.index }, number, title, ...extras);
}

function movement(places) {
  if (places === 0) return element("span", { class: "moved muted" }, arrow("="), spoken("unmoved"));
  const [way, sign] = places > 0 ? ["up", "▲"] : ["down", "▼"];
  return element("span", { class: `moved ${way}` }, arrow(sign), spoken(`${way} `), String(Math.abs(places)));
}

const arrow = (sign) => element("span", { "aria-hidden": "true" }, sign);

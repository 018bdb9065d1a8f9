// The polarization of expected scores, and the controls that set it.

import { PRESETS } from "./constants.js";
import { byId, element } from "./dom.js";

/**
 * σ(x; α, β) = 1 / (1 + exp(−α (x − β))); without α and β the score is kept as it is.
 *
 * @param {number} score expected score in [0, 1]
 * @param {{alpha: number | null, beta: number | null}} curve
 */
export function polarize(score, { alpha, beta }) {
  return alpha === null ? score : 0.5 * (1 + Math.tanh(0.5 * alpha * (score - beta)));
}

/** The preset of a curve, or "custom". */
export function presetOf({ alpha, beta }) {
  if (alpha === null) return "none";
  const named = Object.entries(PRESETS).find(([, [a, b]]) => a === alpha && b === beta);
  return named ? named[0] : "custom";
}

/** α and β, by slider, by number and by preset. */
export class PolarizationControls {
  #onChange;
  #names = ["alpha", "beta"];
  #values = { alpha: PRESETS.balanced[0], beta: PRESETS.balanced[1] }; // kept while the preset is none

  constructor(onChange) {
    this.#onChange = onChange;
    for (const name of ["none", ...Object.keys(PRESETS), "custom"]) {
      const radio = element("input", { type: "radio", name: "preset", value: name });
      radio.addEventListener("change", () => this.#choose(name));
      byId("presets").append(element("label", {}, radio, element("span", {}, name)));
    }
    for (const name of this.#names) {
      byId(name).addEventListener("input", (event) => this.#move(name, event.target));
      byId(`${name}-number`).addEventListener("input", (event) => this.#move(name, event.target));
    }
    this.set(this.#values);
  }

  /**
   * Show a curve, and tell who listens.
   *
   * @param {{alpha: number | null, beta: number | null}} curve
   * @param {HTMLInputElement | null} typedIn is left as it is
   */
  set(curve, typedIn = null) {
    if (curve.alpha !== null) this.#values = curve;
    for (const name of this.#names) {
      const inputs = [byId(name), byId(`${name}-number`)].filter((input) => input !== typedIn);
      inputs.forEach((input) => (input.value = this.#values[name]));
    }
    document.querySelector(`input[name=preset][value=${presetOf(curve)}]`).checked = true;
    this.#onChange(curve);
  }

  #choose(preset) {
    if (preset === "none") this.set({ alpha: null, beta: null });
    else if (preset in PRESETS) this.set({ alpha: PRESETS[preset][0], beta: PRESETS[preset][1] });
    else this.#onChange(this.#values); // custom begins where the sliders are
  }

  #move(name, input) {
    if (input.value === "" || !input.validity.valid) return; // half-typed
    this.set({ ...this.#values, [name]: input.valueAsNumber }, input);
  }
}

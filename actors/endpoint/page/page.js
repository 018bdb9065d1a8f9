// The page: ask for labels, show them, polarize them here, rank them.

import { Problem, ask, inWords, keepToken, readToken } from "./api.js";
import { MAX_PRODUCTS } from "./constants.js";
import { Curve } from "./curve.js";
import { byId, oncePerFrame } from "./dom.js";
import { EXAMPLE } from "./example.js";
import { LabelList } from "./labels.js";
import { PolarizationControls, polarize } from "./polarization.js";
import { readProducts } from "./products.js";
import { RankingView, inOrder } from "./ranking.js";

// Small enough for a slow model to answer before the endpoint's deadline, and for the rows to fill as one looks.
const PAIRS_A_REQUEST = 32;

const state = {
  query: "",
  items: [],
  curve: null,
  run: null, // AbortController of the labelling in progress
  reranking: null, // AbortController of the last request for a ranking
};
const labels = new LabelList();
const ranking = new RankingView();
const curve = new Curve();
const redraw = oncePerFrame(() => {
  labels.polarize(state.curve);
  curve.draw(state.curve);
  if (!state.run && state.items.length && !chosen("ranker")) rankByLabels();
});
const controls = new PolarizationControls((changed) => {
  state.curve = changed;
  redraw();
});

const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
const many = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

function say(text) {
  byId("status").textContent = text;
}

/** Show an error in the alert line; a missing or wrong token is asked for. */
function report(error) {
  if (!(error instanceof Problem)) console.error(error);
  byId("alert").textContent = error instanceof Problem ? error.message : "This page has failed; reload it.";
  if (error.status !== 401) return;
  byId("token").setAttribute("aria-invalid", "true");
  byId("token").focus();
  byId("token").select();
}

function refuse(message, input) {
  byId("alert").textContent = message;
  input.setAttribute("aria-invalid", "true");
  input.focus();
}

function forgetErrors() {
  byId("alert").textContent = "";
  for (const id of ["query", "products", "token"]) byId(id).removeAttribute("aria-invalid");
}

async function loadModels(signal) {
  const { models } = await ask("v1/models", { signal });
  const labeller = models.find((model) => model.id === "labeller") ?? {};
  labels.showScale(labeller.levels ?? [], labeller.level_worths ?? []);
  curve.showWorths(labeller.level_worths ?? []);
  byId("models").textContent = models.map((model) => `${model.id} ${model.version}`).join(" · ");
  byId("models").title = byId("models").textContent;
  for (const radio of document.querySelectorAll("input[name=ranker]")) {
    radio.disabled = radio.value !== "" && !models.some((model) => model.id === radio.value);
  }
  return labeller;
}

/** Begin with the endpoint's own polarization. */
async function start() {
  forgetErrors();
  const { polarization_alpha: alpha = null, polarization_beta: beta = null } = await loadModels();
  controls.set({ alpha, beta });
  const own = alpha === null ? "keeps scores as they are" : `polarizes with α ${alpha}, β ${beta}`;
  byId("served").textContent = `The endpoint itself ${own}.`;
}

async function label() {
  forgetErrors();
  const query = byId("query").value.trim();
  const items = readProducts(byId("products").value, chosen("kind"));
  if (!query) return refuse("Type a query.", byId("query"));
  if (!items.length) return refuse("Paste products, one a line.", byId("products"));
  if (items.length > MAX_PRODUCTS) {
    return refuse(`${many(items.length, "product")} are too many: at most ${MAX_PRODUCTS}.`, byId("products"));
  }
  const run = begin(query, items);
  try {
    await loadModels(run.signal);
    await labelAll(run.signal);
  } catch (error) {
    if (state.run !== run) return; // another run has taken over
    if (error.name !== "AbortError") report(error);
  }
  finish();
}

function begin(query, items) {
  state.run?.abort();
  state.reranking?.abort();
  const run = new AbortController();
  Object.assign(state, { query, items, run });
  byId("ranking").hidden = true;
  byId("stop").hidden = false;
  byId("progress").hidden = false;
  labels.show(items);
  showProgress(items.filter((item) => item.error));
  if (matchMedia("(max-width: 60rem)").matches) byId("results").scrollIntoView();
  return run;
}

async function labelAll(signal) {
  const asked = state.items.filter((item) => item.asked);
  for (let from = 0; from < asked.length; from += PAIRS_A_REQUEST) {
    const some = asked.slice(from, from + PAIRS_A_REQUEST);
    const pairs = some.map((item) => ({ query: state.query, ...item.asked }));
    const { results } = await ask("v1/labels", { body: { pairs }, signal });
    signal.throwIfAborted(); // these rows are no longer shown
    for (const { index, label, cached, error } of results) {
      Object.assign(some[index], { label, cached, error: error ? besideItem(error) : "" });
    }
    showProgress(some);
  }
}

/** An error in words; the place in the request means nothing to who looks at the row. */
function besideItem(error) {
  return inWords({ ...error, instance: null }).replaceAll(/\bpairs\.\d+\.(product\.)?/g, "");
}

function showProgress(answered) {
  labels.fill(answered, state.curve);
  curve.showProducts(state.items);
  redraw();
  const done = state.items.filter((item) => item.label || item.error).length;
  Object.assign(byId("progress"), { max: state.items.length, value: done });
  say(`Labelling: ${done} of ${state.items.length}`);
}

function finish() {
  state.run = null;
  if (document.activeElement === byId("stop")) byId("label").focus();
  byId("stop").hidden = true;
  byId("progress").hidden = true;
  const left = state.items.filter((item) => !item.label && !item.error);
  left.forEach((item) => (item.error = "Not labelled."));
  labels.fill(left, state.curve);
  const labelled = state.items.filter((item) => item.label);
  const cached = labelled.filter((item) => item.cached).length;
  const failed = state.items.length - labelled.length;
  say(`${many(labelled.length, "product")} labelled, ${cached} of them from the cache; ${many(failed, "error")}.`);
  if (!labelled.length) return;
  ranking.showBefore(state.items);
  rank();
}

function rankByLabels() {
  const score = (item) => (item.label ? polarize(item.label.expected_score, state.curve) : null);
  byId("ranking-note").textContent = "The curve keeps the order; it moves products apart, or together.";
  ranking.showAfter(inOrder(state.items, score), "by label score");
}

async function rank() {
  state.reranking?.abort();
  const model = chosen("ranker");
  if (!model) return rankByLabels();
  const { signal } = (state.reranking = new AbortController());
  ranking.clearAfter(`by ${model}`);
  byId("ranking-note").textContent = "Ranking…";
  const asked = state.items.filter((item) => item.label);
  const body = { model, query: state.query, documents: asked.map((item) => item.asked) };
  try {
    const { results, model_version: version } = await ask("v1/rerank", { body, signal });
    const scores = new Map(results.map(({ index, relevance_score: score }) => [asked[index].index, score]));
    byId("ranking-note").textContent = `Scores of ${model} ${version}.`;
    ranking.showAfter(inOrder(state.items, (item) => scores.get(item.index) ?? null), `by ${model}`);
  } catch (error) {
    if (error.name === "AbortError") return;
    byId("ranking-note").textContent = "Not ranked.";
    report(error);
  }
}

function countLines() {
  const lines = byId("products").value.split("\n").filter((line) => line.trim()).length;
  byId("count").textContent = lines ? `${lines.toLocaleString("en")} of ${MAX_PRODUCTS}` : "";
}

function fillInExample() {
  byId("query").value = EXAMPLE.query;
  byId("products").value = EXAMPLE.products;
  document.querySelector("input[name=kind][value=product]").checked = true;
  countLines();
  byId("label").focus();
}

/** Mark one product wherever it is shown. */
function highlight(event) {
  const index = event.target.closest?.("[data-index]")?.dataset.index;
  for (const marked of document.querySelectorAll(".marked")) marked.classList.remove("marked");
  if (index === undefined) return;
  for (const found of document.querySelectorAll(`[data-index="${index}"]`)) found.classList.add("marked");
}

function onKey(event) {
  if (event.key === "Escape") state.run?.abort();
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  byId("ask").requestSubmit();
}

function onSubmit(id, action) {
  byId(id).addEventListener("submit", (event) => {
    event.preventDefault();
    action();
  });
}

async function useToken() {
  try {
    keepToken(byId("token").value.trim());
    await start();
    byId("query").focus();
  } catch (error) {
    report(error);
  }
}

onSubmit("ask", label);
onSubmit("token-form", useToken);
byId("stop").addEventListener("click", () => state.run?.abort());
byId("example").addEventListener("click", fillInExample);
byId("products").addEventListener("input", oncePerFrame(countLines));
byId("rankers").addEventListener("change", rank);
document.addEventListener("keydown", onKey);
document.addEventListener("pointerover", highlight);
byId("token").value = readToken();
countLines(); // a reloaded page keeps what was typed
start().catch(report);

// From pasted lines to products.

/**
 * One product that somebody asks about.
 *
 * @typedef {object} Item
 * @property {number} index position among the pasted ones, from 0
 * @property {string} title what a person knows it by
 * @property {string} detail what else there is to show
 * @property {{product: object} | {product_id: string} | null} asked its part of a request; null where it is unreadable
 * @property {string} error why it has no label
 * @property {object | null} label the answer's label
 * @property {boolean | null} cached whether it had been judged before
 */

/**
 * Read pasted lines; empty ones are skipped.
 *
 * @param {string} text as pasted
 * @param {"product" | "id"} kind whether a line is a title or JSON, or a product id
 * @returns {Item[]}
 */
export function readProducts(text, kind) {
  const lines = text.split(/\r\n|\r|\n/).map((line) => line.trim()).filter(Boolean);
  return lines.map((line, index) => ({ index, error: "", label: null, cached: null, ...readLine(line, kind) }));
}

function readLine(line, kind) {
  if (kind === "id") return catalogued(line);
  if (!line.startsWith("{")) return described({ title: line }, line);
  try {
    const product = JSON.parse(line);
    const isId = product.title === undefined && product.product_id !== undefined;
    return isId ? catalogued(String(product.product_id)) : described(product, line);
  } catch {
    return { title: line, detail: "", asked: null, error: "This line is not JSON." };
  }
}

function catalogued(id) {
  return { title: id, detail: "", asked: { product_id: id } };
}

function described(product, line) {
  const detail = [product.brand, product.category, product.product_id].filter(Boolean).map(String).join(" · ");
  return { title: String(product.title || line), detail, asked: { product } };
}

// Making elements. Text from people and servers becomes text nodes; nothing here reads markup.

const SVG = "http://www.w3.org/2000/svg";

/** The element with an id. */
export const byId = (id) => document.getElementById(id);

/** Make an HTML element; children are elements or texts. */
export function element(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** Make an SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

/** Text for screen readers alone. */
export const spoken = (text) => element("span", { class: "hidden" }, text);

function furnish(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Call at most once a frame, with the newest arguments: a slider moves faster than a thousand rows are drawn. */
export function oncePerFrame(action) {
  let newest = null;
  return (...given) => {
    if (newest === null) requestAnimationFrame(() => {
      const last = newest;
      newest = null;
      action(...last);
    });
    newest = given;
  };
}

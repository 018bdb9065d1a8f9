// The endpoint's API: bearer token, JSON in and out, errors as RFC 9457 has them.

const TOKEN = "labelstream-token";

/** What went wrong with a request. The message is for people. */
export class Problem extends Error {
  /**
   * @param {{status?: number, title?: string, detail?: string, errors?: {field: string, message: string}[],
   *   instance?: string}} body
   * @param {string | null} retryAfter seconds, as the header has them
   */
  constructor(body, retryAfter = null) {
    super(inWords(body, retryAfter));
    this.status = body.status ?? 0;
  }
}

/** A problem in one line: what happened, which fields, when to try again, and the id to look for in the logs. */
export function inWords(body, retryAfter = null) {
  const what = body.detail || body.title || "Something went wrong";
  const unsaid = (body.errors ?? []).filter(({ message }) => !what.includes(message));
  const parts = [what, ...unsaid.map(({ field, message }) => (field ? `${field}: ${message}` : message))];
  if (/^\d+$/.test(retryAfter ?? "")) parts.push(`Try again in ${retryAfter} s.`);
  if (body.instance) parts.push(`Request ${body.instance}.`);
  return parts.map((part) => (/[.!?…]$/.test(part) ? part : `${part}.`)).join(" ");
}

/** The token of this tab, or an empty text. */
export const readToken = () => sessionStorage.getItem(TOKEN) ?? "";

/** Keep a token until the tab closes; an empty one is forgotten. Throws a Problem for what no header can hold. */
export function keepToken(token) {
  if (!/^[\x21-\x7e]*$/.test(token)) {
    throw new Problem({ status: 401, detail: "A token has no spaces and no special letters" });
  }
  if (token) sessionStorage.setItem(TOKEN, token);
  else sessionStorage.removeItem(TOKEN);
}

/** GET, or POST where there is a body. Throws a Problem, or an AbortError when stopped. */
export async function ask(path, { body, signal } = {}) {
  const headers = { Accept: "application/json" };
  const token = readToken();
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  const method = body ? "POST" : "GET";
  const options = { method, headers, body: body && JSON.stringify(body), signal, cache: "no-store" };
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ detail: "The endpoint cannot be reached" });
  }
  if (response.status === 401 && !token) {
    throw new Problem({ status: 401, detail: "This endpoint needs a token: type yours in the field Token" });
  }
  if (!response.ok) throw await problemOf(response);
  return response.json();
}

async function problemOf(response) {
  const fallback = { status: response.status, title: `${response.status} ${response.statusText}`.trim() };
  const isJson = /[/+]json\b/.test(response.headers.get("Content-Type") ?? "");
  // A proxy in between may answer with a page of its own.
  const body = isJson ? await response.json().catch(() => ({})) : {};
  return new Problem({ ...fallback, ...body, status: response.status }, response.headers.get("Retry-After"));
}

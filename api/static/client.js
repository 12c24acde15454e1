// Calls the API. The key, if one is needed, stays in this tab.

const KEY = "api-key";

/** An answer that is not a success: the problem that the API describes. */
export class Refused extends Error {
  constructor(status, problem, retryAfter) {
    super(problem.detail || problem.title || `The server answered ${status}.`);
    this.status = status;
    this.problem = problem;
    this.retryAfter = retryAfter;
  }

  get title() {
    return this.problem.title ?? `The server answered ${this.status}`;
  }
}

const UNREACHABLE = {
  title: "The server does not answer",
  detail: "Check your connection, then try again. Nothing was lost.",
};

let askForKey = async () => undefined;

/** Asks the person for a key: true when there is one to try. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

export function keyHeader() {
  const key = sessionStorage.getItem(KEY);
  return key ? { "X-API-Key": key } : {};
}

export function setKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;

/** The answer to a request. Asks for a key when one is needed. Throws `Refused`. */
export async function call(path, options = {}) {
  for (;;) {
    const headers = { Accept: "application/json", ...options.headers, ...keyHeader() };
    const answer = await fetch(path, { ...options, headers, cache: "no-store" }).catch(lost);
    if (answer.ok) return answer;
    if (answer.status === 401 && (await askForKey(hasKey()))) continue;
    throw await refused(answer);
  }
}

function lost(error) {
  if (error.name === "AbortError") throw error;
  throw new Refused(0, UNREACHABLE);
}

async function refused(answer) {
  const problem = await answer.json().catch(() => ({}));
  return new Refused(
    answer.status,
    problem,
    Number(answer.headers.get("Retry-After")) || undefined,
  );
}

export async function getJson(path, options) {
  return (await call(path, options)).json();
}

/** Upload a file; `onProgress` is told the share that was sent. Throws `Refused`. */
export async function upload(path, content, headers, onProgress, signal) {
  for (;;) {
    const request = await sent(path, content, { ...headers, ...keyHeader() }, onProgress, signal);
    if (request.status >= 200 && request.status < 300) return JSON.parse(request.responseText);
    if (request.status === 401 && (await askForKey(hasKey()))) continue;
    let problem = {};
    try {
      problem = JSON.parse(request.responseText);
    } catch {
      // Not one of our answers: the status has to do.
    }
    const retryAfter = Number(request.getResponseHeader("Retry-After")) || undefined;
    throw new Refused(request.status, problem, retryAfter);
  }
}

// fetch() does not tell how much was sent.
function sent(path, content, headers, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => onProgress(total ? loaded / total : 0);
    request.onload = () => resolve(request);
    request.onerror = () => reject(new Refused(0, UNREACHABLE));
    request.onabort = () => reject(new DOMException("Cancelled", "AbortError"));
    signal?.addEventListener("abort", () => request.abort());
    request.send(content);
  });
}

/** An error for people: title and text of a `Refused`. Throws other errors again. */
export function explain(error) {
  if (error instanceof Refused) return [error.title, error.message];
  throw error;
}

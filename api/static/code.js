// The request that the form makes, as code to copy.

import { h } from "./dom.js";

const PYTHON = (url, record, key, member) => `import json
import urllib.request

record = ${python(record)}
request = urllib.request.Request(
    "${url}",
    json.dumps(record).encode(),
    {"Content-Type": "application/json"${key ? ', "X-API-Key": KEY' : ""}},
)
print(json.load(urllib.request.urlopen(request))["${member}"])`;

const CURL = (url, record, key) => `curl -sS ${url} \\
  -H 'Content-Type: application/json' \\${key ? '\n  -H "X-API-Key: $KEY" \\' : ""}
  -d '${JSON.stringify(record)}'`;

function python(record) {
  const members = Object.entries(record).map(
    ([name, value]) => `"${name}": ${JSON.stringify(value)}`,
  );
  return `{${members.join(", ")}}`;
}

/** `member`: the part of the score that the code prints. */
export function codeFor(member) {
  const url = new URL("predict", document.baseURI).href;
  const text = h("code");
  const pre = h("pre", { tabindex: "0", "aria-label": "Code" }, text);
  const copy = h("button", { type: "button", class: "quiet", onclick: copied }, "Copy");
  const languages = { curl: CURL, Python: PYTHON };
  const buttons = Object.keys(languages).map((name) =>
    h(
      "button",
      {
        type: "button",
        class: "chip",
        "aria-pressed": String(name === "curl"),
        onclick: () => choose(name),
      },
      name,
    ),
  );
  let chosen = "curl";
  let last = [{}, false];

  function choose(name) {
    chosen = name;
    for (const button of buttons)
      button.setAttribute("aria-pressed", String(button.textContent === name));
    show(...last);
  }

  function show(record, key) {
    last = [record, key];
    text.textContent = languages[chosen](url, record, key, member);
  }

  async function copied() {
    try {
      await navigator.clipboard.writeText(text.textContent);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      copy.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  }

  const element = h(
    "details",
    { class: "card code" },
    h("summary", {}, "As code"),
    h("div", { class: "examples" }, buttons, copy),
    pre,
  );
  return { element, show };
}

// Builds elements.

/** An element with properties and children: `h("button", { type: "button", onclick }, "Go")`. */
export function h(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** The same for drawings. */
export function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child || child === 0));
  return element;
}

/** Something went wrong, or needs attention: a box with a title and what to do. */
export function alertBox(kind, title, ...text) {
  const paragraphs = text.map((one) => (typeof one === "string" ? h("p", {}, one) : one));
  const role = kind === "bad" ? "alert" : "status";
  return h("div", { class: `box ${kind}`, role }, h("h3", {}, title), paragraphs);
}

/** Offer text or bytes as a file. */
export function save(content, name, type) {
  const blob = content instanceof Blob ? content : new Blob([content].flat(), { type });
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

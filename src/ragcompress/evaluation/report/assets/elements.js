// What the other parts are made of. Everything that comes from the data is put in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== "") element.append(child);
  }
  return element;
}

function html(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function sign(look) {
  const path = svg("path", { class: `c-${look.colour}`, d: look.shape });
  return svg("svg", { class: "sign", viewBox: "-8 -8 16 16", width: 14, height: 14, "aria-hidden": "true" }, path);
}

function grouped(value, digits) {
  return value.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

// A single question's number; the tables hold text that is written elsewhere.
function shown(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit === "share") return `${grouped(100 * value, value === 0 || value === 1 ? 0 : 1)} %`;
  if (unit === "ratio") return `${grouped(value, 1)}×`;
  if (unit === "flops" && value > 0) {
    const power = Math.max(0, Math.min(5, Math.floor(Math.log10(value) / 3)));
    return `${grouped(value / 1000 ** power, 1)} ${["", "k", "M", "G", "T", "P"][power]}FLOP`;
  }
  const text = grouped(value, value === 0 || value >= 100 || Number.isInteger(value) ? 0 : 1);
  return unit === "ms" ? `${text} ms` : text;
}

// Base64 of compressed JSON.
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent.trim()), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

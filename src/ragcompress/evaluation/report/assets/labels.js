// Names beside the points of a chart, wherever they fit without touching anything; the legend has them all.

const PLACES = [
  [9, 4, "start"], [-9, 4, "end"], [0, -10, "middle"], [0, 19, "middle"],
  [8, -7, "start"], [-8, -7, "end"], [8, 15, "start"], [-8, 15, "end"],
];

function drawLabels(root, families, points, best, bounds) {
  const layer = svg("g", { class: "labels", "aria-hidden": "true" });
  root.append(layer);
  const taken = points.map((point) => ({ x1: point.px - 7, x2: point.px + 7, y1: point.py - 7, y2: point.py + 7, of: point }));
  best.forEach((point, index) => {
    // The front runs to the right from each of its points, and up to the next.
    const next = best[index + 1] || { px: bounds.right, py: point.py };
    taken.push({ x1: point.px + 7, x2: next.px, y1: point.py - 1, y2: point.py + 1 });
    taken.push({ x1: next.px - 1, x2: next.px + 1, y1: next.py, y2: point.py });
  });
  const rank = (members) => (members.some((point) => best.includes(point)) ? 0 : 1);
  for (const members of [...families].sort((one, other) => rank(one) - rank(other))) {
    const tries = [...members].reverse();
    tries.some((point) => placeLabel(layer, point, point.look.family, "", taken, bounds));
  }
  for (const point of points) {
    if (point.look.member) placeLabel(layer, point, point.look.member, "member", taken, bounds);
  }
}

function placeLabel(layer, point, words, kind, taken, bounds) {
  const text = svg("text", { class: `${kind} t-${point.look.colour}` }, words);
  layer.append(text);
  const length = text.getComputedTextLength();
  for (const [dx, dy, anchor] of PLACES) {
    const x = point.px + dx, y = point.py + dy;
    const x1 = anchor === "start" ? x : anchor === "end" ? x - length : x - length / 2;
    const box = { x1: x1 - 2, x2: x1 + length + 2, y1: y - 11, y2: y + 3 };
    const inside = box.x1 >= bounds.left && box.x2 <= bounds.right + 8 && box.y1 >= bounds.top - 8 && box.y2 <= bounds.bottom - 2;
    const free = taken.every((other) => other.of === point ? true
      : box.x2 < other.x1 || box.x1 > other.x2 || box.y2 < other.y1 || box.y1 > other.y2);
    if (!inside || !free) continue;
    for (const [name, value] of Object.entries({ x, y, "text-anchor": anchor })) text.setAttribute(name, value);
    taken.push(box);
    return true;
  }
  text.remove();
  return false;
}

// Two scatter plots of a dataset: quality against length, and against time, drawn to the width that there is.

const MARGIN = { left: 38, right: 12, top: 12, bottom: 40 };
const LABEL_HEIGHT = 14;

function niceStep(range, about) {
  const rough = range / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
}

function linear(low, high, from, to, about) {
  const step = niceStep(high - low || 1, about);
  const start = Math.floor(low / step + 1e-9) * step;
  const end = Math.ceil(high / step - 1e-9) * step || step;
  const ticks = [];
  for (let i = 0; start + i * step <= end + step / 2; i += 1) ticks.push(start + i * step);
  return { at: (value) => from + ((value - start) / (end - start || 1)) * (to - from), ticks };
}

// Lengths and times differ by orders of magnitude. Zero, which has no logarithm, stands before a break in the axis.
function logarithmic(values, from, to, about) {
  const positive = values.filter((value) => value > 0);
  const start = positive.length < values.length ? from + Math.min(46, (to - from) * 0.12) : from;
  const low = Math.log10(Math.min(...positive) / 1.25);
  const high = Math.log10(Math.max(...positive) * 1.25);
  const at = (value) => (value > 0 ? start + ((Math.log10(value) - low) / (high - low)) * (to - start) : from + 12);
  const within = (factors) => {
    const found = [];
    for (let power = Math.floor(low); power <= high; power += 1) {
      for (const factor of factors) found.push(factor * 10 ** power);
    }
    return found.filter((tick) => Math.log10(tick) >= low && Math.log10(tick) <= high);
  };
  const choices = [[1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]].map(within);
  const ticks = choices.find((each) => each.length <= about) || choices[choices.length - 1];
  return { at, ticks: start > from ? [0, ...ticks] : ticks, broken: start > from ? start : null };
}

function scaleOf(values, from, to) {
  const positive = values.filter((value) => value > 0);
  const about = Math.max(3, Math.floor((to - from) / 70));
  const wide = positive.length && Math.max(...positive) / Math.min(...positive) > 3;
  return wide ? logarithmic(values, from, to, about) : linear(0, Math.max(...values, 1e-9), from, to, about);
}

// Not beaten: nothing that costs as little is as good.
function front(points) {
  const found = [];
  let best = -Infinity;
  for (const point of [...points].sort((one, other) => one.x - other.x || other.y - one.y)) {
    if (point.y > best) {
      found.push(point);
      best = point.y;
    }
  }
  return found;
}

function pointsOf(dataset, xName, yName) {
  return dataset.contestants
    .filter((each) => each.metrics[xName] && each.metrics[yName])
    .filter((each) => Number.isFinite(each.metrics[xName].at) && Number.isFinite(each.metrics[yName].at))
    .map((each) => ({
      name: each.name, kind: each.kind, look: each.look, metrics: each.metrics,
      x: each.metrics[xName].at, y: each.metrics[yName].at,
      xEnds: [each.metrics[xName].low, each.metrics[xName].high], yEnds: [each.metrics[yName].low, each.metrics[yName].high],
    }));
}

function drawChart(figure, dataset, xName, yName) {
  const plot = figure.querySelector(".plot");
  const points = pointsOf(dataset, xName, yName);
  const width = Math.max(260, plot.clientWidth);
  const height = Math.round(Math.min(440, Math.max(300, width * 0.72)));
  const left = MARGIN.left, right = width - MARGIN.right, top = MARGIN.top, bottom = height - MARGIN.bottom;
  const x = scaleOf(points.map((point) => point.x), left, right);
  const lows = points.map((point) => point.yEnds[0]), highs = points.map((point) => point.yEnds[1]);
  const y = linear(100 * Math.min(...lows), 100 * Math.max(...highs), bottom, top, 6);
  const yAt = (value) => y.at(100 * value);
  for (const point of points) Object.assign(point, { px: x.at(point.x), py: yAt(point.y) });

  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": figure.dataset.title });
  const axes = svg("g", { class: "axes", "aria-hidden": "true" });
  for (const tick of y.ticks) {
    axes.append(svg("line", { x1: left, x2: right, y1: y.at(tick), y2: y.at(tick) }));
    axes.append(svg("text", { x: left - 7, y: y.at(tick) + 4, "text-anchor": "end" }, grouped(tick, tick % 1 ? 1 : 0)));
  }
  for (const tick of x.ticks) {
    const digits = tick > 0 && tick < 1 ? Math.ceil(-Math.log10(tick)) : 0;
    axes.append(svg("text", { x: x.at(tick), y: bottom + 17, "text-anchor": "middle" }, grouped(tick, digits)));
    axes.append(svg("line", { class: "tick", x1: x.at(tick), x2: x.at(tick), y1: bottom, y2: bottom + 4 }));
  }
  axes.append(svg("line", { class: "base", x1: left, x2: right, y1: bottom, y2: bottom }));
  if (x.broken) {
    const place = x.broken - 12;
    axes.append(svg("path", { class: "break", d: `M${place - 4},${bottom + 5}l4,-10M${place + 1},${bottom + 5}l4,-10` }));
  }
  axes.append(svg("text", { class: "axis", x: right, y: bottom + 35, "text-anchor": "end" }, figure.dataset.axis));
  root.append(axes);

  const everything = points.find((point) => point.name === dataset.all_documents);
  if (everything) {
    root.append(svg("line", { class: "reference", x1: left, x2: right, y1: everything.py, y2: everything.py }));
  }
  const best = front(points);
  if (best.length) {
    const steps = best.slice(1).map((point) => `H${point.px}V${point.py}`).join("");
    root.append(svg("path", { class: "front", d: `M${best[0].px},${best[0].py}${steps}H${right}` }));
  }
  const families = new Map();
  for (const point of points) {
    const key = `${point.kind} ${point.look.family}`;
    families.set(key, [...(families.get(key) || []), point]);
  }
  for (const members of families.values()) {
    members.sort((one, other) => one.px - other.px);
    if (members.length < 2) continue;
    const d = members.map((point, index) => `${index ? "L" : "M"}${point.px},${point.py}`).join("");
    root.append(svg("path", { class: `family s-${members[0].look.colour}`, d }));
  }
  // Baselines of a compressor's length often lie where it does: the compressor is drawn last, and so on top.
  const layers = ["baseline", "peer", "compressor"];
  for (const point of [...points].sort((one, other) => layers.indexOf(one.kind) - layers.indexOf(other.kind))) {
    root.append(drawPoint(point, figure, dataset, xName, yName, { x, yAt, left, right }));
  }
  plot.replaceChildren(root, figure.querySelector(".tip") || html("div", { class: "tip", role: "tooltip", hidden: true }));
  drawLabels(root, [...families.values()], points, best, { left, right, top, bottom });
  const missing = dataset.contestants.filter((each) => !points.some((point) => point.name === each.name));
  const names = missing.length > 3 ? `the ${missing.length} contestants without this quality in the table`
    : missing.map((each) => each.name).join(", ");
  figure.querySelector(".missing").textContent = missing.length ? `Not drawn, since not measured: ${names}.` : "";
}

function drawPoint(point, figure, dataset, xName, yName, scales) {
  const within = (value) => Math.min(scales.right, Math.max(scales.left, scales.x.at(value)));
  const words = ["tokens", "token_compression", xName, yName].filter((name, index, all) => all.indexOf(name) === index)
    .filter((name) => point.metrics[name]).map((name) => `${dataset.measures[name].heading}: ${point.metrics[name].text}`);
  const group = svg("g", {
    class: `point s-${point.look.colour}`, tabindex: 0, role: "img", "data-name": point.name,
    "aria-label": `${point.name}. ${words.join(". ")}`,
    onpointerenter: () => showTip(figure, dataset, point, xName, yName), onpointerleave: () => hideTip(figure),
    onfocus: () => showTip(figure, dataset, point, xName, yName), onblur: () => hideTip(figure),
    onkeydown: (event) => { if (event.key === "Escape") hideTip(figure); },
  });
  group.append(
    svg("line", { class: "interval", x1: point.px, x2: point.px, y1: scales.yAt(point.yEnds[0]), y2: scales.yAt(point.yEnds[1]) }),
    svg("line", { class: "interval", x1: within(point.xEnds[0]), x2: within(point.xEnds[1]), y1: point.py, y2: point.py }),
    svg("circle", { class: "target", cx: point.px, cy: point.py, r: 11 }),
    svg("path", { class: `c-${point.look.colour}`, d: point.look.shape, transform: `translate(${point.px},${point.py})` }),
  );
  return group;
}

function showTip(figure, dataset, point, xName, yName) {
  const tip = figure.querySelector(".tip");
  const rows = [yName, "tokens", "token_compression", xName].filter((name, index, all) => all.indexOf(name) === index)
    .filter((name) => point.metrics[name]);
  const gap = point.metrics[yName].difference;
  tip.replaceChildren(
    html("strong", { dir: "auto" }, sign(point.look), point.name),
    html("dl", {}, rows.map((name) => [html("dt", {}, dataset.measures[name].heading), html("dd", {}, point.metrics[name].text)]),
      gap ? [html("dt", {}, "over all documents"), html("dd", {}, gap)] : []),
  );
  tip.hidden = false;
  const plot = figure.querySelector(".plot");
  const toLeft = point.px > plot.clientWidth / 2;
  tip.style.left = `${Math.max(0, Math.min(plot.clientWidth - tip.offsetWidth, toLeft ? point.px - tip.offsetWidth - 14 : point.px + 14))}px`;
  tip.style.top = `${Math.max(0, point.py - tip.offsetHeight - 12)}px`;
  figure.classList.add("pointed");
}

function hideTip(figure) {
  figure.querySelector(".tip").hidden = true;
  figure.classList.remove("pointed");
}

// Tabs, tables, and when the rest is drawn.

function start() {
  const datasets = JSON.parse(document.getElementById("drawn").textContent);
  for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
  for (const panel of document.querySelectorAll(".panel")) {
    panel.drawn = false;
    const all = panel.querySelector(".all-measures");
    if (!all) continue;
    const table = panel.querySelector("table.sortable");
    const label = all.closest("label");
    label.hidden = !table.querySelector(".more");
    const follow = () => table.classList.toggle("main-only", !all.checked);
    all.addEventListener("change", follow);
    follow();
  }
  const tabs = [...document.querySelectorAll("[role=tab]")];
  document.querySelector("[role=tablist]").hidden = tabs.length < 2;
  const show = (chosen) => {
    for (const tab of tabs) {
      const selected = tab === chosen;
      tab.setAttribute("aria-selected", selected);
      tab.tabIndex = selected ? 0 : -1;
      const panel = document.getElementById(tab.getAttribute("aria-controls"));
      panel.hidden = !selected;
      if (selected && !panel.drawn && panel.dataset.dataset) fillPanel(panel, datasets[Number(panel.dataset.dataset)]);
    }
    chosen.scrollIntoView({ block: "nearest", inline: "nearest" });
  };
  for (const tab of tabs) {
    tab.addEventListener("click", () => show(tab));
    tab.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
      if (!(event.key in steps)) return;
      event.preventDefault();
      const step = steps[event.key], place = tabs.indexOf(tab);
      const next = Number.isFinite(step) ? tabs[(place + step + tabs.length) % tabs.length] : step < 0 ? tabs[0] : tabs[tabs.length - 1];
      show(next);
      next.focus();
    });
  }
  show(tabs[0]);
  // On paper there are no tabs: every dataset is drawn, and its questions, which would fill a book, stay behind.
  let before = tabs[0];
  window.addEventListener("beforeprint", () => {
    before = tabs.find((tab) => tab.getAttribute("aria-selected") === "true") || tabs[0];
    for (const tab of tabs) show(tab);
    for (const tab of tabs) document.getElementById(tab.getAttribute("aria-controls")).hidden = false;
  });
  window.addEventListener("afterprint", () => show(before));
}

function fillPanel(panel, dataset) {
  panel.drawn = true;
  drawCharts(panel.querySelector(".charts"), dataset);
  const box = panel.querySelector(".browser");
  if (!box) return;
  box.append(html("p", { class: "about waiting" }, "Reading the questions …"));
  unpacked(box.dataset.questions).then((data) => browse(box, data, dataset)).catch((error) => {
    box.replaceChildren(html("p", { class: "note" }, `The questions cannot be shown: ${error}`));
  });
}

function drawCharts(box, dataset) {
  if (!dataset.accuracy.length) {
    box.append(html("p", { class: "about" }, "Nothing was measured that could be drawn."));
    return;
  }
  const time = dataset.contestants.some((each) => each.metrics.total_ms) ? "total_ms" : "added_ms";
  const words = { tokens: "tokens of the context, mean", total_ms: "added latency and reading, median ms", added_ms: "added latency, median ms" };
  const chooser = html("select", { class: "quality" }, dataset.accuracy.map((name) => html("option", { value: name }, dataset.measures[name].label)));
  const figures = [["tokens", "length"], [time, "time"]].filter(([name]) => dataset.contestants.some((each) => each.metrics[name]))
    .map(([name, word]) => {
      const figure = html("figure", { "data-x": name, "data-axis": words[name], "data-word": word },
        html("figcaption", {}), html("div", { class: "plot" }), html("p", { class: "missing" }));
      return figure;
    });
  const meaning = html("p", { class: "about meaning" });
  const draw = () => {
    meaning.textContent = dataset.measures[chooser.value].about;
    for (const figure of figures) {
      const measure = dataset.measures[chooser.value];
      const title = `${measure.heading} against ${figure.dataset.word}`;
      figure.dataset.title = title;
      figure.querySelector("figcaption").textContent = title;
      drawChart(figure, dataset, figure.dataset.x, chooser.value);
    }
  };
  chooser.addEventListener("change", draw);
  box.replaceChildren(html("div", { class: "controls" }, html("label", {}, html("span", {}, "quality"), chooser), meaning),
    html("div", { class: "figures" }, figures), legend(dataset));
  let width = 0;
  const follow = () => {
    if (box.clientWidth && box.clientWidth !== width) {
      width = box.clientWidth;
      draw();
    }
  };
  follow();
  new ResizeObserver(follow).observe(box);
}

function legend(dataset) {
  const kinds = [["compressor", "compressors"], ["baseline", "baselines"], ["peer", "peers"]];
  const entries = kinds.map(([kind, words]) => {
    const seen = new Map(dataset.contestants.filter((each) => each.kind === kind).map((each) => [each.look.family, each.look]));
    const signs = [...seen].map(([family, look]) => html("span", {}, sign(look), html("bdi", {}, family)));
    return signs.length ? html("li", {}, html("b", {}, words), signs) : null;
  });
  const line = svg("svg", { class: "line", viewBox: "0 0 22 10", width: 22, height: 10, "aria-hidden": "true" }, svg("path", { class: "front", d: "M1,9H9V3H21" }));
  const dots = svg("svg", { class: "line", viewBox: "0 0 22 10", width: 22, height: 10, "aria-hidden": "true" }, svg("line", { class: "reference", x1: 1, x2: 21, y1: 5, y2: 5 }));
  return html("ul", { class: "legend" }, entries, html("li", {}, html("b", {}, "lines"),
    html("span", {}, line, "Pareto front: nothing cheaper is as good"), html("span", {}, dots, "as good as all documents"),
    html("span", {}, "upright: 95 % intervals"), html("span", {}, "across: the same of lengths; of times, from the median to the 95th percentile")));
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = html("button", { type: "button", onclick: () => sortBy(table, heads, column) });
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
  });
}

function sortBy(table, heads, column) {
  const head = heads[column];
  const isText = head.dataset.kind === "text";
  const before = head.getAttribute("aria-sort");
  const firstUp = isText || head.dataset.first === "low";
  const up = before === "none" ? firstUp : before === "descending";
  for (const other of heads) other.setAttribute("aria-sort", other === head ? (up ? "ascending" : "descending") : "none");
  const value = (row) => row.cells[column].dataset.sort;
  const compare = (one, other) => {
    const a = value(one), b = value(other);
    // What was not measured stays at the end, whichever way.
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    const order = isText ? a.localeCompare(b, "en", { numeric: true }) : Number(a) - Number(b);
    return up ? order : -order;
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
}

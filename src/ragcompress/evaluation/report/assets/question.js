// One question under one contestant.

function showQuestion(question, name, record, dataset) {
  const one = record(name);
  return [
    html("p", { class: "rc-query", dir: "auto" }, question.text),
    html("p", { class: "right-answers" }, html("span", { class: "rc-meta" }, "right: "),
      question.answers.map((answer, index) => [index ? " · " : "", html("bdi", {}, answer)])),
    showAnswers([...new Set([name, dataset.all_documents, dataset.no_context])], record),
    one && one.failure ? html("p", { class: "note" }, `Failed (${one.failure[0]}): ${one.failure[1]}`) : null,
    one ? showMetrics(one.metrics, dataset.measures) : html("p", { class: "note" }, "There is no record of this question."),
    one ? showWritten(one.segments) : [],
    one ? showLegend(one.segments) : null,
    question.documents.map((passage, index) => showPassage(passage, index, one ? one.segments : [])),
    html("p", { class: "rc-meta identity" }, [question.id, question.language].filter(Boolean).join(" · ")),
  ].flat(Infinity).filter(Boolean);
}

function showAnswers(names, record) {
  const answered = names.filter((name) => record(name) && record(name).answer !== null);
  if (!answered.length) return null;
  return html("table", { class: "answers" }, html("tbody", {}, answered.map((name) => {
    const one = record(name), right = isRight(one);
    const mark = one.metrics.cover_match === undefined ? "" : right ? "✓" : "✗";
    return html("tr", {}, html("th", { scope: "row" }, html("bdi", {}, name)),
      html("td", { class: right ? "better" : "worse", "aria-label": right ? "right" : "wrong" }, mark),
      html("td", { dir: "auto", class: "answer" }, one.answer.trim() ? one.answer : html("i", {}, "nothing")),
      html("td", { class: "rc-meta" }, one.metrics.f1 === undefined ? "" : `F1 ${shown(one.metrics.f1, "share")}`));
  })));
}

function showMetrics(metrics, measures) {
  const found = Object.entries(metrics).filter(([name]) => measures[name]);
  if (!found.length) return null;
  return html("details", { class: "rc-quiet metrics" },
    html("summary", {}, html("span", {}, brief(metrics))),
    html("dl", {}, found.map(([name, value]) => html("div", {}, html("dt", {}, measures[name].label),
      html("dd", {}, shown(value, measures[name].unit))))));
}

function brief(metrics) {
  const parts = [];
  if (metrics.tokens !== undefined) {
    const before = metrics.all_tokens === undefined ? "" : `${shown(metrics.all_tokens, "tokens")} → `;
    parts.push(`${before}${shown(metrics.tokens, "tokens")} tokens`);
  }
  if (metrics.support_recall !== undefined) parts.push(`sentence recall ${shown(metrics.support_recall, "share")}`);
  if (metrics.added_ms !== undefined) parts.push(`added ${shown(metrics.added_ms, "ms")}`);
  return parts.join(" · ") || "numbers of this question";
}

// Text that stands in no passage as it is.
function showWritten(segments) {
  return segments.filter((segment) => segment.text).map((segment) => {
    const origins = [...new Set(segment.sources.map(([place]) => `[${place}]`))].join(", ");
    const note = ["written", origins ? `from ${origins}` : "", scoreOf(segment)].filter(Boolean).join(" · ");
    return html("div", { class: "rc-written" }, html("p", { class: "rc-meta" }, note),
      html("div", { class: "rc-text rc-whole", dir: "auto" }, segment.text));
  });
}

function scoreOf(segment) {
  return segment.score === null ? "" : `score ${segment.score}`;
}

function showLegend(segments) {
  const levels = new Set(segments.filter((segment) => segment.score !== null).map((segment) => segment.level));
  const shades = levels.size < 2 ? null : html("span", { class: "rc-legend" }, "lower ",
    [1, 2, 3, 4, 5].map((level) => html("i", { class: `rc-${level}` })), " higher score");
  return html("p", { class: "rc-counts" },
    html("span", {}, html("mark", { class: "rc-3" }, "kept"), "  ", html("u", { class: "gold" }, "needed for the answer")), shades);
}

function showPassage(passage, index, segments) {
  const mine = segments.flatMap((segment) => segment.sources
    .filter(([place]) => place === index).map(([, start, end]) => ({ start, end, segment })));
  const slots = mine.filter((each) => each.segment.n_slots !== null);
  // A whole passage: text as it is, without a span of its own.
  const spans = mine.map((each) => (each.start === undefined && each.segment.text === null && each.segment.n_slots === null
    ? { ...each, start: 0, end: passage.text.length } : each)).filter((each) => each.start < each.end);
  const chips = slots.map((each) => html("code", { class: "rc-chip" }, `${grouped(each.segment.n_slots, 0)} memory slots`));
  const needed = passage.supporting ? html("span", { class: "rc-chip supporting" }, "supports the answer") : null;
  const kinds = [mine.length ? "rc-used" : "rc-quiet", slots.length && !spans.length ? "rc-represented" : ""].join(" ");
  return html("details", { class: kinds, open: mine.length > 0 || passage.supporting },
    html("summary", {}, html("span", { class: "rc-index" }, `[${index}]`),
      passage.title ? html("bdi", { class: "rc-title" }, passage.title) : null, needed, chips,
      mine.length ? null : html("span", { class: "rc-meta" }, "nothing kept")),
    html("div", { class: "rc-text", dir: "auto" }, markedText(passage, spans),
      passage.n_left_out ? html("span", { class: "rc-gap" }, `… ${grouped(passage.n_left_out, 0)} characters …`) : null));
}

// Where spans overlap, the strongest shows, and all are named.
function markedText(passage, spans) {
  const edges = new Set([0, passage.text.length]);
  for (const span of spans) edges.add(span.start).add(span.end);
  for (const [start, end] of passage.gold) edges.add(start).add(end);
  const places = [...edges].sort((one, other) => one - other);
  return places.slice(1).map((end, number) => {
    const start = places[number];
    const active = spans.filter((span) => span.start <= start && span.end >= end);
    const needed = passage.gold.some(([from, to]) => from <= start && to >= end);
    let piece = document.createTextNode(passage.text.slice(start, end));
    if (needed) piece = html("u", { class: "gold" }, piece);
    if (!active.length) return piece;
    const level = Math.max(...active.map((span) => span.segment.level));
    const note = [...new Set(active.map((span) => scoreOf(span.segment)).filter(Boolean))].join("; ");
    return html("mark", { class: `rc-${level}`, title: note || null }, piece);
  });
}

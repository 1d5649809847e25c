// Single questions: what a contestant kept of the originals, and what became of the answer.

const LIST_AT_ONCE = 400;

function isRight(record) {
  return Boolean(record && record.metrics.cover_match >= 0.5);
}

function isAnswered(record) {
  return Boolean(record && record.answer !== null && record.metrics.cover_match !== undefined);
}

function hasLost(record, before) {
  if (!record || record.failure) return false;
  const { answer_in_context: kept, support_recall: sentences, document_recall: passages } = record.metrics;
  if (sentences !== undefined) return sentences < 1;
  if (passages !== undefined) return passages < 1;
  return kept === 0 && Boolean(before) && before.metrics.answer_in_context === 1;
}

const FILTERS = [
  ["all", "all questions", () => true],
  ["broke", "compression broke it", (one, before) => isAnswered(one) && isAnswered(before) && isRight(before) && !isRight(one)],
  ["mended", "compression mended it", (one, before) => isAnswered(one) && isAnswered(before) && !isRight(before) && isRight(one)],
  ["lost", "evidence was lost", hasLost],
  ["failed", "failed", (one) => Boolean(one && one.failure)],
];

function browse(box, data, dataset) {
  const known = new Map(dataset.contestants.map((each) => [each.name, each]));
  const index = (name) => data.contestants.indexOf(name);
  const first = data.contestants.find((name) => known.get(name).kind === "compressor") || data.contestants[0];
  const state = { contestant: first, filter: "all", text: "", question: null };
  const record = (name, question) => (index(name) < 0 ? null : data.records[index(name)][question]);
  const numbers = data.questions.map((_, number) => number);

  const options = data.contestants.map((name) => html("option", { value: name, selected: name === first }, name));
  const filter = html("select", { class: "filter", onchange: (event) => { state.filter = event.target.value; update(); } });
  const chooser = html("select", { class: "contestant", onchange: (event) => { state.contestant = event.target.value; update(); } }, options);
  const search = html("input", { type: "search", class: "search", placeholder: "words", oninput: (event) => { state.text = event.target.value; update(); } });
  const count = html("p", { class: "count", "aria-live": "polite" });
  const list = html("ol", { class: "questions" });
  const pane = html("article", { class: "question", tabindex: -1 });
  box.replaceChildren(
    html("div", { class: "controls" },
      html("label", {}, html("span", {}, "contestant"), chooser), html("label", {}, html("span", {}, "show"), filter),
      html("label", {}, html("span", {}, "search"), search)),
    count, html("div", { class: "halves" }, list, pane),
  );

  const passes = (number, test) => test(record(state.contestant, number), record(dataset.all_documents, number));
  function hasWords(number) {
    const question = data.questions[number], one = record(state.contestant, number);
    const all = [question.id, question.text, ...question.answers, (one && one.answer) || "", ...question.documents.map((each) => each.title)];
    return all.join("\n").toLowerCase().includes(state.text.trim().toLowerCase());
  }

  function update() {
    filter.replaceChildren(...FILTERS.map(([name, label, test]) => {
      const n = numbers.filter((number) => passes(number, test)).length;
      return html("option", { value: name, selected: name === state.filter }, `${label} (${n})`);
    }));
    const test = FILTERS.find(([name]) => name === state.filter)[2];
    const found = numbers.filter((number) => passes(number, test) && hasWords(number));
    const more = data.n_left_out ? `; ${grouped(data.n_left_out, 0)} more are not in this page, which took those that changed first` : "";
    count.textContent = `${found.length} of ${data.questions.length} questions${more}.`;
    if (!found.includes(state.question)) state.question = found.length ? found[0] : null;
    list.replaceChildren(...found.slice(0, LIST_AT_ONCE).map(item));
    open(state.question);
  }

  function item(number) {
    const question = data.questions[number];
    return html("li", {}, html("button", {
      type: "button", "data-number": number, "aria-current": number === state.question ? "true" : null,
      onclick: () => { open(number); if (matchMedia("(max-width: 52rem)").matches) pane.scrollIntoView({ block: "start" }); },
    }, verdict(number), html("span", { class: "words", dir: "auto" }, question.text)));
  }

  function verdict(number) {
    const one = record(state.contestant, number), before = record(dataset.all_documents, number);
    if (one && one.failure) return html("span", { class: "verdict worse" }, "failed");
    if (!isAnswered(one)) {
      return hasLost(one, before) ? html("span", { class: "verdict worse" }, "lost") : html("span", { class: "verdict" }, "kept");
    }
    if (!isAnswered(before) || isRight(one) === isRight(before)) {
      return html("span", { class: "verdict" }, isRight(one) ? "right" : "wrong");
    }
    return html("span", { class: `verdict ${isRight(one) ? "better" : "worse"}` }, isRight(one) ? "mended" : "broken");
  }

  function open(number) {
    state.question = number;
    for (const button of list.querySelectorAll("button")) {
      if (Number(button.dataset.number) === number) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    const shownQuestion = number === null ? [html("p", { class: "about" }, "No question is like that.")]
      : showQuestion(data.questions[number], state.contestant, (name) => record(name, number), dataset);
    pane.replaceChildren(...shownQuestion);
  }

  update();
}

"""The report in a browser: charts are drawn, tables sort, tabs turn, filters filter, questions open."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from importlib.resources import files

import pytest

from ragcompress.evaluation.records import KeptSegment
from ragcompress.evaluation.report import write_report
from tests.unit.evaluation_results import question, record, rivers, write_dataset

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror=window.hacked=1>"
# Runs `act`, which gathers what it sees in `seen`, once the page is ready; all of it is written into the page.
DRIVER = """
const seen = {}, one = (path, from) => (from || document).querySelector(path);
const all = (path, from) => [...(from || document).querySelectorAll(path)];
const texts = (path, from) => all(path, from).map((each) => each.textContent.trim());
const until = async (test) => { while (!test()) await new Promise((go) => setTimeout(go, 20)); return test(); };
const choose = (select, value) => { select.value = value; select.dispatchEvent(new Event("change")); };
const panel = () => one(".panel:not([hidden])");
(async () => {
  try { await (async () => { ACT })(); } catch (error) { seen.error = String(error.stack); }
  const note = document.createElement("pre");
  note.id = "seen";
  note.textContent = JSON.stringify(seen);
  document.body.append(note);
})();
"""

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


def look(folder, act, *, width=1200):
    """Open the report of a folder, act in it, and return what was seen."""
    markup = write_report(folder, folder / "report.html").read_text(encoding="utf-8")
    driver = DRIVER.replace("ACT", act)
    digest = base64.b64encode(hashlib.sha256(driver.encode()).digest()).decode()
    # The page runs its own script alone; this one has to be named beside it.
    markup = markup.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    markup = markup.replace("</body>", f"<script>{driver}</script></body>")
    (folder / "driven.html").write_text(markup, encoding="utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900", "--virtual-time-budget=20000",
        "--dump-dom", f"file://{folder / 'driven.html'}",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=90)
    except subprocess.TimeoutExpired:
        pytest.skip("Chromium did not finish within 90 seconds")
    seen = json.loads(html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, flags=re.DOTALL)[1]))
    assert "error" not in seen, seen["error"]
    return seen


@needs_chromium
def test_tabs_charts_tables_and_questions_answer_to_clicks(tmp_path):
    rivers(tmp_path)
    rivers(tmp_path, name="lakes")
    seen = look(
        tmp_path,
        """
        seen.tabs = texts("[role=tab]");
        seen.first = panel().id;
        one("[role=tab]").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true }));
        seen.afterKey = [one("h2", panel()).textContent, document.activeElement.textContent, all(".panel:not([hidden])").length];
        one("#tab-0").click();
        seen.afterClick = [one("h2", panel()).textContent, one("#tab-0").getAttribute("aria-selected")];

        await until(() => one(".point", panel()));
        const charts = all("figure", panel());
        seen.titles = charts.map((each) => one("figcaption", each).textContent);
        seen.points = charts.map((each) => all(".point", each).length);
        seen.fronts = all(".plot .front", panel()).length;
        seen.named = one("[data-name='ranker-2']", charts[0]).getAttribute("aria-label");
        one("[data-name='ranker-2']", charts[0]).focus();
        seen.tip = one(".tip", charts[0]).textContent;
        one("[data-name='ranker-2']", charts[0]).blur();
        seen.tipHidden = one(".tip", charts[0]).hidden;
        choose(one("select.quality", panel()), "f1");
        seen.newTitle = one("figcaption", charts[0]).textContent;

        const head = [...one("thead tr", panel()).cells].find((each) => each.textContent.startsWith("contains"));
        const order = () => [head.getAttribute("aria-sort"), ...texts("tbody th .name > span > bdi", one("table.sortable", panel()))];
        seen.unsorted = order();
        one("button", head).click();
        seen.down = order();
        one("button", head).click();
        seen.up = order();
        one("thead button", panel()).click();
        seen.byName = [...texts("tbody th .name > span > bdi", one("table.sortable", panel())), head.getAttribute("aria-sort")];
        const hidden = () => all("thead th", panel()).filter((each) => each.offsetWidth === 0).length;
        seen.hidden = [hidden()];
        one(".all-measures", panel()).click();
        seen.hidden.push(hidden());

        await until(() => one(".questions button", panel()));
        const filter = one("select.filter", panel()), list = () => texts(".questions .words", panel());
        seen.contestant = one("select.contestant", panel()).value;
        seen.filters = texts("option", filter);
        choose(filter, "broke");
        seen.broke = list();
        seen.answers = texts(".answers tr", panel());
        seen.marked = all(".question mark[class^=rc-]:not(.rc-3)", panel()).map((each) => [each.className, each.textContent, each.title]);
        seen.gold = texts(".question .rc-text .gold", panel());
        choose(filter, "mended");
        seen.mended = list();
        choose(filter, "failed");
        seen.failed = [list(), one(".question .note", panel()).textContent];
        choose(filter, "all");
        all(".questions button", panel())[5].click();
        seen.opened = [one(".question .rc-query", panel()).textContent, all(".questions [aria-current]", panel()).length];
        const search = one("input.search", panel());
        search.value = "ammer";
        search.dispatchEvent(new Event("input"));
        seen.found = [list(), one(".count", panel()).textContent];
        search.value = "no such words";
        search.dispatchEvent(new Event("input"));
        seen.nothing = [list(), one(".question", panel()).textContent];
        search.value = "";
        choose(one("select.contestant", panel()), "ranker-10");
        choose(filter, "broke");
        seen.ranker10 = list();

        const time = one("[data-name='ranker-2']", charts[1]);
        seen.median = time.getAttribute("aria-label");
        dispatchEvent(new Event("beforeprint"));
        seen.printed = all(".panel:not([hidden])").map((each) => all(".point", each).length);
        dispatchEvent(new Event("afterprint"));
        seen.after = all(".panel:not([hidden]) h2").map((each) => each.textContent);
        """,
    )
    assert seen["tabs"] == ["All datasets", "lakes", "rivers"]
    assert seen["first"] == "panel-all"
    assert seen["afterKey"] == ["rivers", "rivers", 1]
    assert seen["afterClick"] == ["lakes", "true"]
    assert seen["titles"] == ["contains (%) against length", "contains (%) against time"]
    assert seen["points"] == [6, 6]
    assert seen["fronts"] == 2
    assert seen["named"].startswith("ranker-2. tokens: 10.0 (10.0–10.0). token compression: 4.0×")
    assert "over all documents" in seen["tip"]
    assert seen["tipHidden"] is True
    assert seen["newTitle"] == "F1 (%) against length"
    assert seen["unsorted"][0] == "none"
    assert seen["down"] == [
        "descending",
        "all-documents",
        "ranker-10",
        "ranker-2",
        "trimmer",
        "first-tokens",
        "no-context",
    ]
    assert seen["up"] == [
        "ascending",
        "no-context",
        "first-tokens",
        "ranker-2",
        "trimmer",
        "all-documents",
        "ranker-10",
    ]
    assert seen["byName"] == ["all-documents", "no-context", "ranker-2", "first-tokens", "trimmer", "ranker-10", "none"]
    assert seen["hidden"][0] > seen["hidden"][1] == 0
    assert seen["contestant"] == "ranker-2"
    assert seen["filters"] == [
        "all questions (12)", "compression broke it (1)", "compression mended it (1)", "evidence was lost (0)", "failed (1)",
    ]  # fmt: skip
    assert seen["broke"] == ["How long is the Ammer?"]
    assert seen["answers"] == [
        "ranker-2✗nobody knowsF1 0 %",
        "all-documents✓100 kmF1 80.0 %",
        "no-context✗nobody knowsF1 0 %",
    ]
    assert seen["marked"] == [
        ["rc-1", "The Ammer rises in the hills.", "score 0.1"],
        ["rc-5", "It is 100 km long.", "score 0.9"],
    ]
    assert seen["gold"] == ["It is 100 km long."]
    assert seen["mended"] == ["How long is the Bode?"]
    assert seen["failed"] == [["How long is the Cossa?"], "Failed (compress): ValueError: the bridge is closed"]
    assert seen["opened"] == ["How long is the Fulda?", 1]
    assert seen["found"] == [["How long is the Ammer?"] * 2, "2 of 12 questions."]
    assert seen["nothing"] == [[], "No question is like that."]
    assert seen["ranker10"] == []
    assert "in all (p50 / p95, ms): " in seen["median"]
    assert seen["printed"] == [0, 12, 12]
    assert seen["after"] == ["lakes"]


@needs_chromium
def test_hostile_text_is_shown_and_not_run(tmp_path):
    each = question(0, question=f"why {HOSTILE}", answers=[HOSTILE], docs=[{"title": HOSTILE, "text": f"ab {HOSTILE}"}])
    segments = (
        KeptSegment(((0, None, None),), HOSTILE),
        KeptSegment(((0, 0, 9),), score=0.5),
        KeptSegment(((0, None, None),), n_slots=16),
    )
    made = record(each, 1, answer=HOSTILE, segments=segments)
    contestants = {"all-documents": ("baseline", None, [made]), "ranker": ("compressor", None, [made])}
    write_dataset(tmp_path, [each], contestants, reader=HOSTILE, counter=HOSTILE, settings={HOSTILE: HOSTILE})
    seen = look(
        tmp_path,
        """
        await until(() => one(".questions button", panel()));
        seen.hacked = window.hacked || 0;
        seen.images = all("img").length;
        seen.query = one(".rc-query").textContent;
        seen.answer = one(".answers .answer").textContent;
        seen.written = one(".rc-written .rc-text").textContent;
        seen.passage = one("details .rc-text").textContent;
        seen.slots = texts("summary .rc-chip");
        seen.tabs = one("[role=tablist]").hidden;
        """,
    )
    assert seen == {
        "hacked": 0, "images": 0, "query": f"why {HOSTILE}", "answer": HOSTILE, "written": HOSTILE,
        "passage": f"ab {HOSTILE}", "slots": ["16 memory slots"], "tabs": True,
    }  # fmt: skip


@needs_chromium
def test_a_phone_has_no_sideways_scroll_and_small_charts(tmp_path):
    rivers(tmp_path)
    rivers(tmp_path, name="a-dataset-with-a-rather-long-name-that-does-not-fit")
    seen = look(
        tmp_path,
        """
        seen.width = innerWidth;
        seen.wide = [document.documentElement.scrollWidth];
        one("#tab-0").click();
        await until(() => one(".point", panel()) && one(".questions button", panel()));
        seen.wide.push(document.documentElement.scrollWidth);
        one("[data-name='all-documents']").focus();
        seen.wide.push(document.documentElement.scrollWidth);
        seen.charts = all(".plot > svg", panel()).map((each) => each.getBoundingClientRect().width);
        seen.scrolls = one(".scroll", panel()).scrollWidth > one(".scroll", panel()).clientWidth;
        """,
        width=360,
    )
    assert max(seen["wide"]) <= seen["width"]
    assert max(seen["charts"]) < seen["width"]
    assert len(seen["charts"]) == 2
    assert seen["scrolls"] is True


@needs_chromium
def test_results_without_answers_and_questions_have_charts_of_what_was_kept(tmp_path):
    questions = [question(number) for number in range(4)]
    every = [record(each, None, n_tokens=40) for each in questions]
    short = [record(each, None, n_tokens=7 if number == 3 else 10) for number, each in enumerate(questions)]
    contestants = {"all-documents": ("baseline", None, every), "ranker": ("compressor", None, short)}
    place = write_dataset(tmp_path, questions, contestants, reader=None)
    for path in place.glob("*.jsonl"):
        path.unlink()
    seen = look(
        tmp_path,
        """
        await until(() => one(".point", panel()));
        seen.titles = texts("figcaption", panel());
        seen.axes = texts(".plot .axis", panel());
        """,
    )
    assert seen["titles"] == ["sentence recall (%) against length", "sentence recall (%) against time"]
    assert seen["axes"] == ["tokens of the context, mean", "added latency, median ms"]


def luminance(colour):
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_have_contrast_in_both_modes():
    style = files("ragcompress.evaluation.report").joinpath("assets", "report.css").read_text(encoding="utf-8")
    palettes = re.findall(r"\{([^{}]*--compressor-0:[^{}]*)\}", style)
    assert len(palettes) == 2
    for palette, paper in zip(palettes, ("#fffdf8", "#1d1b18"), strict=True):
        colours = dict(re.findall(r"--([\w-]+): (#\w{6})", palette))
        assert len(colours) == 15
        for name, colour in colours.items():
            if name != "grid":
                assert contrast(colour, paper) >= (4.5 if name in ("better", "worse") else 3.0), name

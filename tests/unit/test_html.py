"""The page shows everything, lets no tag through, stays small, and is readable in both modes."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.resources import files

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragcompress.html import fragment, page
from ragcompress.types import CompressedContext, Document, MemorySegment, Source, TextSegment
from ragcompress.view import View, sizes, visible

OUR_TAGS = {
    "html", "head", "meta", "title", "style", "body", "div", "header", "p", "i", "span", "details", "summary", "bdi",
    "mark", "code", "footer",
}  # fmt: skip
HOSTILE = "<script>alert(1)</script> </style><img src=x onerror=alert(1)> &amp; \" ' `"


class Reader(HTMLParser):
    """Collects what a browser would show, and every tag and attribute."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.text, self.tags, self.attributes, self.marked, self._open = [], set(), set(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.text.append(data)
        if "mark" in self._open:
            self.marked.append(data)


def read(markup):
    reader = Reader()
    reader.feed(markup)
    reader.close()
    assert not reader._open
    return reader


def spanned(documents, spans, **more):
    segments = tuple(
        TextSegment(documents[index].text[start:end], (Source(index, start, end),), score, 3)
        for index, start, end, score in spans
    )
    more.setdefault("n_tokens", 100)
    return CompressedContext("why?", tuple(documents), segments, n_slots=3 * len(spans), **more)


texts = st.text(st.characters(exclude_categories=()), max_size=80) | st.sampled_from([HOSTILE, "]]>-->", "<b>x</b>"])


@st.composite
def contexts(draw):
    documents = draw(st.lists(st.builds(Document, texts, st.none() | texts, st.none() | texts), max_size=4))
    segments = []
    for index, document in enumerate(documents):
        for _ in range(draw(st.integers(0, 3))):
            start, end = sorted(draw(st.tuples(*[st.integers(0, len(document.text))] * 2)))
            score = draw(st.none() | st.floats())
            kind = draw(st.sampled_from(["span", "written", "vectors"]))
            if kind == "span":
                segments.append(TextSegment(document.text[start:end], (Source(index, start, end),), score, 2))
            elif kind == "written":
                others = tuple(Source(draw(st.integers(-1, 5))) for _ in range(2))
                segments.append(TextSegment(draw(texts), others, score))
            else:
                vectors = torch.zeros(draw(st.integers(0, 3)), 2)
                segments.append(MemorySegment(vectors, (Source(index),), score, draw(texts)))
    return CompressedContext(
        draw(texts), tuple(documents), tuple(segments), n_tokens=draw(st.integers(0, 10**6)),
        n_slots=sum(segment.n_slots for segment in segments), counter=draw(texts), truncated=draw(st.booleans()),
        document_tokens=draw(st.sampled_from([(), (1,) * len(documents)])), timings={"a_ms": 1.0},
    )  # fmt: skip


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(contexts())
def test_everything_is_shown_and_no_tag_gets_through(context):
    markup = page(context)
    markup.encode("utf-8")
    reader = read(markup)
    assert reader.tags <= OUR_TAGS
    assert reader.attributes <= {
        "class", "dir", "title", "style", "open", "lang", "charset", "name", "content", "http-equiv", "aria-hidden",
    }  # fmt: skip
    shown = "".join(reader.text)
    for document in context.documents:
        assert visible(document.text) in shown
        assert not (document.title or "").strip() or visible(document.title) in shown
    assert visible(context.query) in shown
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", markup)


@settings(deadline=None, max_examples=100)
@given(st.text("ab \n", max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=6))
def test_overlapping_spans_mark_their_union_once(text, pairs):
    spans = [(0, *sorted(pair), 0.5) for pair in pairs if max(pair) <= len(text)]
    reader = read(fragment(spanned([Document(text)], spans)))
    covered = {place for _, start, end, _ in spans for place in range(start, end)}
    assert "".join(reader.marked) == "".join(text[place] for place in sorted(covered))


def test_the_best_score_is_strongest_and_equal_or_missing_scores_are_medium():
    def levels(*scores):
        context = spanned([Document("abcdefgh")], [(0, i, i + 1, score) for i, score in enumerate(scores)])
        return [int(level) for level in re.findall('<mark class="rc-(.)"', fragment(context))]

    assert levels(0.1, 0.9, 0.5) == [1, 5, 3]
    assert levels(0.4, 0.4) == [3, 3]
    assert levels(None, None) == [3, 3]
    assert levels(0.0, 1.0, float("inf"), float("-inf"), float("nan")) == [1, 5, 5, 1, 3]
    assert levels(-1.7e308, 1.7e308, 0.0) == [1, 5, 3]


def test_tooltips_name_every_score_of_an_overlap():
    markup = fragment(spanned([Document("abcdef")], [(0, 0, 4, 0.25), (0, 2, 6, 0.75)]))
    assert 'title="score 0.25 · 3 tokens; score 0.75 · 3 tokens">cd</mark>' in markup


def test_counts_are_in_the_header():
    context = CompressedContext("q", (), n_tokens=1234, n_slots=210, counter="words")
    assert sizes(context) == "1,234 → 210 tokens (words), 5.9\N{MULTIPLICATION SIGN}"
    assert sizes(context) in "".join(read(fragment(context)).text)
    assert "nothing kept" in sizes(CompressedContext("q", (), n_tokens=5))
    assert " (my-model), " in sizes(CompressedContext("q", (), n_tokens=5, counter="my-model@0123abcd"))


def test_a_page_shows_several_results():
    one, two = CompressedContext("first?", ()), CompressedContext("second?", ())
    shown = "".join(read(page(one, two)).text)
    assert 0 < shown.index("first?") < shown.index("second?")


def test_documents_without_kept_text_are_collapsed():
    markup = fragment(spanned([Document("abc", title="yes"), Document("def", title="no")], [(0, 0, 1, None)]))
    assert re.findall(r'<details class="([^"]*)"( open)?>', markup)[:2] == [("rc-used", " open"), ("rc-quiet", "")]


def test_written_text_is_on_top_with_its_sources():
    documents = (Document("one"), Document("two"))
    context = CompressedContext("q", documents, (TextSegment("a summary", (Source(0), Source(1)), 0.5, 2),))
    shown = "".join(read(fragment(context)).text)
    assert shown.index("from [0], [1]") < shown.index("a summary") < shown.index("one")


def test_memory_tokens_are_chips_on_their_document():
    segment = MemorySegment(torch.zeros(16, 4), (Source(1),), key="0123456789abcdef")
    context = CompressedContext("q", (Document("one"), Document("two")), (segment,), n_tokens=64, n_slots=16)
    markup = fragment(context)
    assert 'title="0123456789abcdef">16 slots · 0123456789</code>' in markup
    assert markup.index("[1]") < markup.index("16 slots ·") < markup.index("two")
    assert "64 tokens → 16 memory slots" in markup


def test_a_huge_document_makes_a_small_page_that_shows_what_was_kept():
    text = "before " * 400_000 + "THE NEEDLE" + " after" * 400_000
    start = text.index("THE")
    markup = fragment(spanned([Document(text)], [(0, start, start + 10, 1.0)]))
    assert len(markup) < 20_000
    assert ">THE NEEDLE</mark>" in markup
    hidden = sum(int(number.replace(",", "")) for number in re.findall(r"… ([\d,]+) characters …", markup))
    assert hidden == len(text) - 10 - 2 * 1_200


@pytest.mark.parametrize(
    "context",
    [
        spanned([Document("x" * 3_000_000)], [(0, 0, 3_000_000, None)]),
        spanned([Document("xy" * 100_000)], [(0, 2 * i, 2 * i + 1, i) for i in range(100_000)]),
        spanned([Document("word " * 1000) for _ in range(3000)], []),
        spanned([Document("word " * 1000) for _ in range(3000)], [(i, 0, 9, None) for i in range(3000)]),
    ],
    ids=["all kept", "tiny spans", "many documents", "many kept documents"],
)
def test_no_input_makes_a_huge_page(context):
    assert len(fragment(context)) < 2_500_000


def test_wrong_sources_do_not_break_the_page():
    segments = (TextSegment("abc", (Source(7, 0, 3),)), TextSegment("abc", (Source(0, 2, 99),)), TextSegment("n", ()))
    shown = "".join(read(fragment(CompressedContext("q", (Document("xyz"),), segments, n_tokens=3))).text)
    assert shown.count("abc") >= 2
    assert "xyz" in shown


def test_a_view_counts_kept_tokens_by_document():
    view = View(spanned([Document("abc"), Document("def")], [(0, 0, 1, None), (0, 1, 2, None)]))
    assert [part.n_slots for part in view.parts] == [6, 0]


def luminance(colour):
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_have_contrast_in_both_modes():
    style = files("ragcompress").joinpath("html.css").read_text(encoding="utf-8")
    palettes = re.findall(r"\{([^{}]*--ink:[^{}]*)\}", style)
    assert len(palettes) == 4
    for palette in palettes:
        colour = dict(re.findall(r"--(\w+): (#\w{6})", palette))
        for ground in ("paper", "chip", "k1", "k2", "k3", "k4"):
            assert contrast(colour["ink"], colour[ground]) >= 5.5, ground
        assert contrast(colour["ink"], colour["k5"]) >= 4.5
        assert contrast(colour["soft"], colour["paper"]) >= 4.5


def test_the_style_touches_nothing_outside():
    style = re.sub(r"/\*.*?\*/", "", files("ragcompress").joinpath("html.css").read_text(encoding="utf-8"), flags=re.S)
    selectors = [s for rule in re.findall(r"([^{}]+)\{", style) if "@media" not in rule for s in rule.split(",")]
    assert selectors
    assert all(".ragcompress" in selector for selector in selectors)


def test_chromium_renders_the_page(tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed")
    context = spanned([Document(f"{HOSTILE} kept", title=HOSTILE)], [(0, 0, 9, 1.0)])
    (tmp_path / "page.html").write_text(page(context), encoding="utf-8")
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{tmp_path / 'page.html'}",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("Chromium did not start within 60 seconds")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in done.stdout
    assert "<img" not in done.stdout
    assert '<mark class="rc-3"' in done.stdout

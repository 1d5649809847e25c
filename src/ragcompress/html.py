"""A result to look at: the originals, with what was kept highlighted; for notebooks and as a page of its own.

Everything shown is escaped, there is no script, and long stretches of text that was not kept are left out, so that a
document of megabytes does not make a page of megabytes.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files

from ragcompress.types import CompressedContext, Document
from ragcompress.view import LEVELS, Part, Span, View, note_on, plural, sizes, visible

# Limits of one page, in characters of text or in things shown. Kept text goes first, so it has its own limits.
MAX_KEPT_CHARS = 400_000
MAX_OTHER_CHARS = 200_000
MAX_DOCUMENT_OTHER_CHARS = 40_000
MAX_GAP_CHARS = 1_200
MAX_LABEL_CHARS = 300
MAX_QUERY_CHARS = 4_000
MAX_KEPT_DOCUMENTS = 500
MAX_OTHER_DOCUMENTS = 100
# What the markup of one highlight counts for, so that a page of one-letter spans has a limit too.
MARK_COST = 40

_PAGE_STYLE = (
    "body{margin:0;background:#f4f0e7}.ragcompress{margin:2.5rem auto}"
    "@media(prefers-color-scheme:dark){body{background:#141311}}@media(max-width:34rem){.ragcompress{margin:0}}"
)


def page(context: CompressedContext, *more: CompressedContext) -> str:
    """Show results as a whole HTML5 document, to be written as UTF-8.

    Args:
        context: the result.
        *more: further results, shown below.

    Returns:
        The document; it loads nothing from elsewhere.
    """
    title = _escape(_clip(" ".join(context.query.split()), 80)) or "compressed context"
    fragments = "\n".join(fragment(each) for each in (context, *more))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        # The text is escaped; should that ever fail, the browser still runs and loads nothing.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{title} · ragcompress</title>\n<style>{_PAGE_STYLE}</style>\n</head>\n<body>\n"
        f"{fragments}\n</body>\n</html>\n"
    )


def fragment(context: CompressedContext) -> str:
    """Show a result as a piece of HTML with its own style, for notebooks.

    Args:
        context: the result.

    Returns:
        One element, of class ``ragcompress``.
    """
    view, room = View(context), _Room()
    return (
        f'<div class="ragcompress"><style>{_style()}</style>{_header(view)}{_written(view, room)}'
        f"{''.join(_documents(view, room))}{_footer(view, room)}</div>"
    )


@cache
def _style() -> str:
    return files("ragcompress").joinpath("html.css").read_text(encoding="utf-8")


class _Room:
    """What the page's limits still allow."""

    def __init__(self) -> None:
        self.kept_left = MAX_KEPT_CHARS
        self.other_left = MAX_OTHER_CHARS

    def kept(self, text: str) -> str:
        """Kept text as HTML, up to the limit of the page."""
        shown = text[: self.kept_left]
        self.kept_left -= min(self.kept_left, len(shown) + MARK_COST)
        return _escape(shown) + _elided(len(text) - len(shown), "kept")

    def other(self, text: str, limit: int = MAX_GAP_CHARS) -> str:
        """Text that was not kept as HTML: its two ends, if it is long."""
        limit = max(0, min(limit, self.other_left))
        shown = min(len(text), limit)
        self.other_left -= shown
        if shown == len(text):
            return _escape(text)
        head, tail = shown - shown // 2, shown // 2
        return _escape(text[:head]) + _elided(len(text) - shown) + _escape(text[len(text) - tail :])


def _escape(text: str) -> str:
    return html.escape(visible(text))


def _clip(text: str, limit: int = MAX_LABEL_CHARS) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _elided(n_chars: int, kind: str = "") -> str:
    if not n_chars:
        return ""
    return f'<span class="rc-gap">… {n_chars:,} {kind + " " if kind else ""}characters …</span>'


def _paragraph(kind: str, escaped: str) -> str:
    return f'<p class="{kind}" dir="auto">{escaped}</p>' if escaped else ""


def _header(view: View) -> str:
    context = view.context
    share = 100 * min(1.0, context.n_slots / context.n_tokens) if context.n_tokens else 0.0
    legend = ""
    if view.high > view.low:
        swatches = "".join(f'<i class="rc-{level}"></i>' for level in range(1, LEVELS + 1))
        legend = f'<span class="rc-legend" aria-hidden="true">lower {swatches} higher score</span>'
    cut = (
        '<p class="rc-warning">A length limit of the model cut a part of the input off.</p>'
        if context.truncated
        else ""
    )
    query = (
        f'<p class="rc-query" dir="auto">{_escape(_clip(context.query, MAX_QUERY_CHARS))}</p>' if context.query else ""
    )
    return (
        f"<header>{_paragraph('rc-query', query)}"
        f'<div class="rc-bar" aria-hidden="true"><i style="width:{share:.1f}%"></i></div>'
        f'<p class="rc-counts"><span>{_escape(_clip(sizes(context)))}</span>{legend}</p>'
        f"{_paragraph('rc-warning', cut)}</header>"
    )


def _written(view: View, room: _Room) -> str:
    """Text that stands in no document as it is, with the documents it was written from."""
    blocks = []
    for segment in view.written:
        origins = ", ".join(
            f"[{document}]" for document in dict.fromkeys(source.document for source in segment.sources)
        )
        note = " · ".join(part for part in (f"from {origins}" if origins else "", note_on(segment)) if part)
        blocks.append(
            f'<div class="rc-written"><p class="rc-meta">{_escape(_clip(note))}</p>'
            f'<div class="rc-text rc-whole" dir="auto">{room.kept(segment.text)}</div></div>'
        )
    return "".join(blocks)


def _documents(view: View, room: _Room) -> Iterator[str]:
    shown = {True: 0, False: 0}
    limits = {True: MAX_KEPT_DOCUMENTS, False: MAX_OTHER_DOCUMENTS}
    for index, (document, part) in enumerate(zip(view.context.documents, view.parts, strict=True)):
        shown[part.used] += 1
        if shown[part.used] <= limits[part.used]:
            yield _document(view, room, index, document, part)
    for used, what in ((True, "with kept text"), (False, "of which nothing was kept")):
        if shown[used] > limits[used]:
            yield f'<p class="rc-more">… and {plural(shown[used] - limits[used], "more document")} {what}.</p>'


def _document(view: View, room: _Room, index: int, document: Document, part: Part) -> str:
    name = document.title or document.id or ""
    label = f'<bdi class="rc-title">{_escape(_clip(name))}</bdi>' if name.strip() else ""
    chips = "".join(
        f'<code class="rc-chip" title="{_escape(_clip(segment.key))}">{plural(segment.n_slots, "slot")}'
        f"{' · ' + _escape(segment.key[:10]) if segment.key else ''}</code>"
        for segment in part.memories[:20]
    )
    kinds = ("rc-used" if part.used else "rc-quiet", "rc-represented" if part.memories and not part.spans else "")
    return (
        f'<details class="{" ".join(kinds).strip()}"{" open" if part.used else ""}>'
        f'<summary><span class="rc-index">[{index}]</span> {label} {chips}'
        f'<span class="rc-meta">{_amount(view, index, part)}</span></summary>'
        f'<div class="rc-text" dir="auto">{"".join(_marked(room, document.text, part.spans))}</div></details>'
    )


def _amount(view: View, index: int, part: Part) -> str:
    known = len(view.context.document_tokens) == len(view.parts)
    before = f"{view.context.document_tokens[index]:,}" if known else ""
    if not part.used or part.n_slots is None:
        return f"{before} tokens" if before else ""
    unit = "slots" if part.memories else "tokens"
    return f"{before} → {part.n_slots:,} {unit}" if before else f"{part.n_slots:,} {unit}"


def _marked(room: _Room, text: str, spans: Sequence[Span]) -> Iterator[str]:
    """The text of a document with its spans marked; where they overlap, the strongest shows and all are named."""
    starts = sorted(spans, key=lambda span: span.start)
    edges = sorted({edge for span in spans for edge in (span.start, span.end)})
    # One document must not use up what the page may show of all.
    left = MAX_DOCUMENT_OTHER_CHARS
    place = next_start = 0
    active: list[Span] = []
    for edge in [*edges, len(text)]:
        piece = text[place:edge]
        if spans and not room.kept_left:
            yield _elided(len(text) - place)
            return
        if active and piece:
            level = max(span.level for span in active)
            notes = dict.fromkeys(span.note for span in active if span.note)
            tooltip = f' title="{_escape(_clip("; ".join(notes)))}"' if notes else ""
            yield f'<mark class="rc-{level}"{tooltip}>{room.kept(piece)}</mark>'
        elif piece:
            limit = min(left, MAX_GAP_CHARS if spans else 2 * MAX_GAP_CHARS)
            left -= min(limit, len(piece))
            yield room.other(piece, limit)
        place = edge
        active = [span for span in active if span.end > edge]
        while next_start < len(starts) and starts[next_start].start <= edge:
            if starts[next_start].end > edge:
                active.append(starts[next_start])
            next_start += 1


def _footer(view: View, room: _Room) -> str:
    context = view.context
    if not context.segments:
        return ""
    try:
        text = context.text
    except IndexError:  # a source outside the documents: as in View, the page is where one sees that
        text = "A segment names a document that was not given."
    prompt = (
        '<details class="rc-quiet rc-prompt"><summary>What goes into the prompt</summary>'
        f'<div class="rc-text rc-whole" dir="auto">{room.kept(text)}</div></details>'
    )
    steps = " · ".join(f"{name.removesuffix('_ms')} {value:,.0f} ms" for name, value in context.timings.items())
    return prompt + (f'<footer class="rc-meta">{_escape(_clip(steps))}</footer>' if steps else "")

"""What stands around documents in a tool's result."""

from hypothesis import given
from hypothesis import strategies as st
from langchain_ragcompress.surroundings import glue_of, joined

pieces = st.lists(
    st.sampled_from(["\n", "# R 1", "# R 2", "Source: a", "Source: b", " ", "<d>", ".", "\r\n"]), max_size=6
).map("".join)


@given(st.lists(pieces, min_size=2, max_size=5).map(tuple), st.data())
def test_nothing_is_lost_that_stands_around_documents_that_stay(glue, data):
    texts = [f"Text {number}" for number in range(len(glue) - 1)]
    content = "".join(before + text for before, text in zip(glue, [*texts, ""], strict=True))
    assert glue_of(content, texts) == glue
    assert joined(glue, dict(enumerate(texts))) == content
    kept = data.draw(st.sets(st.integers(0, len(texts) - 1), min_size=1))
    written = joined(glue, {place: texts[place] for place in kept})
    assert [text for text in texts if text in written] == [texts[place] for place in sorted(kept)]


def test_texts_that_the_content_does_not_hold_in_order():
    assert glue_of("one two", ["two", "one"]) is None
    assert glue_of("one two", ["one", ""]) is None

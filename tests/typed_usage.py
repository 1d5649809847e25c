"""The public types, as a user's own type checker sees them; mypy --strict reads this file, nobody runs it."""

from typing import assert_type

import ragcompress as rc


async def usage() -> None:
    compressor = rc.load("recomp-extractive", top_k=3)
    assert_type(compressor, rc.Compressor)
    context = compressor.compress("question", ["text", rc.Document("text", title="title")])
    assert_type(context, rc.CompressedContext)
    assert_type(context.text, str)
    assert_type(context.ratio, float)
    for segment in context.segments:
        assert_type(segment, rc.TextSegment | rc.MemorySegment)
        assert_type(segment.score, float | None)
        assert_type(segment.sources, tuple[rc.Source, ...])
    assert_type(await compressor.acompress("question", []), rc.CompressedContext)
    assert_type(compressor.compress_batch(["question"], [["text"]]), list[rc.CompressedContext])
    assert_type(compressor.with_options(max_tokens=100), rc.Compressor)
    reader = compressor.reader(max_new_tokens=64)
    assert_type(reader, rc.Reader)
    assert_type(reader.answer([context], temperature=0.5), list[str])
    assert_type(reader.generate([context, "prompt"]), list[rc.Answer])
    assert_type(await reader.acomplete("prompt"), str)
    assert_type("".join(reader.stream(context)), str)
    assert_type(rc.available(), tuple[str, ...])
    assert_type(rc.InMemoryStore().get(["key"], space="space"), list[rc.Memory | None])

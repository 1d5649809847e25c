"""Encode documents once, at ingestion; a question then costs one short encoding and a matrix product."""

import ragcompress as rc

documents = [f"Fact number {n} about the harbour. Ship {n} carried {n * 3} tons of tea." for n in range(50)]
store = rc.InMemoryStore(max_bytes=64 * 1024**2)
compressor = rc.load("recomp-extractive", store=store, max_tokens=60)

compressor.remember(documents)
print(store)
for question in ("How much tea did ship 7 carry?", "What is fact number 31 about?"):
    context = compressor.compress(question, documents)
    timings = ", ".join(f"{step} {milliseconds:.1f}" for step, milliseconds in context.timings.items())
    best = max(context.segments, key=lambda segment: segment.score or 0.0)
    print(f"{question}\n  {context.n_tokens} -> {context.n_slots} tokens; {timings}\n  {best.text}")

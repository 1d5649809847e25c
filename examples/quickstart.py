"""Compress two documents for a question, with the model of the [offline] extra."""

import ragcompress as rc

documents = [
    rc.Document(
        "The bridge was built in 1357. It is 412 metres long. Pigeons nest under its arches.", title="Stone bridge"
    ),
    "Bread needs flour, water, salt and time. Bakers rise early.",
]
compressor = rc.load("recomp-extractive", top_k=2)
context = compressor.compress("How long is the bridge, and how old?", documents)

print(context.text)
print(f"{context.n_tokens} -> {context.n_slots} tokens ({context.counter}), {context.ratio:.1f}x")
for segment in context.segments:
    (source,) = segment.sources
    print(f"{segment.score:.3f}  document {source.document}, characters {source.start}-{source.end}: {segment.text}")

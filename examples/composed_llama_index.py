"""Three compressors as one, in LlamaIndex: rank sentences, keep what is said twice once, stay below a budget.

    python examples/composed_llama_index.py

Needs ``pip install 'ragcompress[offline]' llama-index-postprocessor-ragcompress``.
"""

from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.ragcompress import RagCompressPostprocessor

import ragcompress as rc

TEXTS = {
    "Stone bridge": "The bridge was built by monks in 1357. It is 412 metres long and rests on sixteen arches. Pigeons "
    "nest below.",
    "Guide to the town": "Visitors ask how long the stone bridge is. It is 412 metres long, and rests on sixteen "
    "arches! A walk across it takes six minutes.",
    "Bread": "Bread needs flour, water, salt and time. Bakers rise early.",
}
QUESTION = "How long is the stone bridge?"

# From plain configuration: it can be written as JSON, and loads on the first question.
postprocessor = RagCompressPostprocessor(
    "pipeline",
    stages=[
        {"backend": "recomp-extractive", "top_k": 6},
        {"backend": "deduplicate", "threshold": 0.8},
        {"backend": "token-budget", "max_tokens": 40},
    ],
)
nodes = [NodeWithScore(node=TextNode(text=text, metadata={"title": title})) for title, text in TEXTS.items()]
for item in postprocessor.postprocess_nodes(nodes, query_str=QUESTION):
    note = rc.read_note(item.node.metadata)
    title = item.node.metadata["title"]
    print(f"{title}: {item.node.text}")
    # Spans lead into the nodes as they were retrieved, through all three stages.
    for start, end in note["spans"]:
        print(f"  {start:3} to {end:3}: {TEXTS[title][start:end]!r}")

# The same from objects, and what each stage did.
pipeline = rc.Pipeline([rc.load("recomp-extractive", top_k=6), rc.Deduplicate(0.8), rc.TokenBudget(40)])
context = pipeline.compress(QUESTION, [rc.Document(text, title=title) for title, text in TEXTS.items()])
for stage in context.stages:
    print(f"{stage.name}: {stage.n_tokens} -> {stage.n_slots} tokens")
print(f"together: {context.n_tokens} -> {context.n_slots} tokens")

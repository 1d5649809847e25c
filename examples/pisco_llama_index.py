"""Answer from vectors in LlamaIndex: documents become memory tokens once, and PISCO's own decoder reads them.

Without arguments it runs on a small model with random weights, on any machine, in seconds. With the published model
(seven billion parameters, a GPU):

    python examples/pisco_llama_index.py --checkpoint naver/pisco-mistral --device cuda
"""

import argparse
import warnings

from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.postprocessor.ragcompress import RagCompressLLM, RagCompressPostprocessor, RagCompressTransform

import ragcompress as rc
from ragcompress.testing import tiny

DOCUMENTS = [
    Document(
        text="The bridge was built in 1357. It is 412 metres long. Pigeons nest under its sixteen arches, and ships "
        "have passed through the widest of them since the harbour was dug.",
        metadata={"title": "Stone bridge"},
    ),
    Document(
        text="The ferry leaves at noon and carries forty cars. It was the only way across the river before the bridge "
        "was there, and it still runs in summer.",
        metadata={"title": "Ferry"},
    ),
]
QUESTION = "How long is the stone bridge?"

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--checkpoint", help="path or hub id; without one: a small model with random weights")
arguments.add_argument("--device", help="cuda, mps or cpu; without one: the best there is")
arguments.add_argument("--store", default="memory://example", help="for example lancedb://memories, which is kept")
options = arguments.parse_args()

# Handles in the place of text are what we want here: RagCompressLLM reads them.
warnings.simplefilter("ignore", rc.HandleWarning)
if options.checkpoint is None:
    compressor = tiny("pisco")
    compressor.store = rc.open_store(options.store)
    print("A small model with random weights: what it answers is noise.")
else:
    device = {} if options.device is None else {"device": options.device}
    compressor = rc.load("pisco", options.checkpoint, store=options.store, **device)

# Ingestion: each node is encoded once. No embedding model is needed to show that; use your own in its place.
pipeline = IngestionPipeline(transformations=[SentenceSplitter(), RagCompressTransform(compressor=compressor)])
nodes = pipeline.run(documents=DOCUMENTS)
index = VectorStoreIndex(nodes, embed_model=MockEmbedding(8))

# Questions: nothing but the question is encoded.
llm = RagCompressLLM(reader=compressor, max_new_tokens=32)
Settings.prompt_helper = llm.prompt_helper()
engine = index.as_query_engine(
    llm=llm, node_postprocessors=[RagCompressPostprocessor(compressor=compressor)], similarity_top_k=2, streaming=True
)
response = engine.query(QUESTION)
print(QUESTION)
for piece in response.response_gen:
    print(piece, end="", flush=True)
print()
for source in response.source_nodes:
    note = rc.read_note(source.metadata)
    print(f"{source.metadata['title']}: {note['n_tokens']} tokens -> {note['n_slots']} vectors")

"""A whole RAG pipeline in LlamaIndex from one model: CLaRa encodes documents, finds them, and answers from them.

There is no embedding model and no vector store: documents become memory tokens, which are searched by the question's
own memory tokens and read by the decoder. Without arguments it runs on a small model with random weights, on any
machine, in seconds. With the published model (seven billion parameters, a GPU):

    python examples/clara_llama_index.py --checkpoint apple/CLaRa-7B-E2E/compression-16 --device cuda
"""

import argparse
import tempfile
from pathlib import Path

from llama_index.core import Document
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.postprocessor.ragcompress import RagCompressLLM, RagCompressRetriever

import ragcompress as rc
from ragcompress.testing import tiny

CORPUS = Path(__file__).parent / "demo" / "corpus"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--checkpoint", help="folder or hub id of an E2E checkpoint; default: a tiny random model")
parser.add_argument("--device", help="cuda, mps or cpu; default: the best there is")
parser.add_argument("--index", help="folder of the index, which is kept; default: a temporary one")
parser.add_argument("--question", default="Who built the lighthouse on the Eddystone rocks?")
parser.add_argument("--top-k", type=int, default=5, help="how many passages the answer is written from")
arguments = parser.parse_args()

with tempfile.TemporaryDirectory() as temporary:
    checkpoint = arguments.checkpoint
    if checkpoint is None:
        checkpoint = str(Path(temporary) / "tiny")
        tiny("clara").save_pretrained(checkpoint)
        print("A tiny model with random weights: what it finds is chance, and what it answers is noise.\n")
    settings = {"checkpoint": checkpoint} | ({"device": arguments.device} if arguments.device else {})
    folder = arguments.index or Path(temporary) / "index"
    # Handles in the place of text are what we want here: RagCompressLLM reads them.
    retriever = RagCompressRetriever(
        "clara",
        index=folder,
        similarity_top_k=arguments.top_k,
        handles="expected",
        keep_original=True,
        **settings,
    )

    # Ingestion: every passage is encoded once. Run again with the same --index, this part costs nothing.
    documents = [
        Document(
            text=path.read_text(encoding="utf-8"), doc_id=path.name, metadata={"title": path.stem.replace("-", " ")}
        )
        for path in sorted(CORPUS.glob("*.md"))
    ]
    # CLaRa reads 256 tokens at a time; with names of their own, passages are the same ones in the next run.
    splitter = SentenceSplitter(chunk_size=220, chunk_overlap=0, id_func=lambda place, source: f"{source.id_}:{place}")
    nodes = splitter.get_nodes_from_documents(documents)
    print(f"{len(documents)} files, {len(nodes)} passages. {retriever.add_nodes(nodes)}\n")

    # Questions: nothing but the question is encoded.
    llm = RagCompressLLM("clara", max_new_tokens=64, **settings)
    engine = RetrieverQueryEngine.from_args(retriever, llm=llm, streaming=True, prompt_helper=llm.prompt_helper())
    print(arguments.question)
    response = engine.query(arguments.question)
    for piece in response.response_gen:
        print(piece, end="", flush=True)
    print("\n")
    for source in response.source_nodes:
        note = rc.read_note(source.metadata)
        sizes = f"{note['n_tokens']} tokens -> {note['n_slots']} vectors"
        beginning = " ".join(source.metadata[rc.ORIGINAL_KEY].split())[:60]
        print(f"{source.score:.3f}  {source.node_id}: {sizes}  {beginning}...")

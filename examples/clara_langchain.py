"""CLaRa in a LangChain chain: documents are indexed, found and answered from as memory tokens, without embeddings.

    python examples/clara_langchain.py                                     # a tiny random model: its answer is noise
    python examples/clara_langchain.py --checkpoint apple/CLaRa-7B-E2E/compression-16   # the published one; needs a GPU

Needs ``pip install langchain-ragcompress "ragcompress[store]"``.
"""

import argparse
import tempfile
import warnings
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_ragcompress import ChatRagCompress, RagCompressor, RagCompressRetriever

import ragcompress as rc

# The warning is for pipelines that end in a plain LLM; this one ends in ChatRagCompress.
warnings.filterwarnings("ignore", category=rc.HandleWarning)

CORPUS = Path(__file__).parent / "demo" / "corpus"


def read_corpus() -> list[Document]:
    """One document a paragraph, with the headline as its title and the file as its source."""
    documents = []
    for path in sorted(CORPUS.glob("*.md")):
        title, *paragraphs = path.read_text(encoding="utf-8").strip().split("\n\n")
        documents += [
            Document(text, id=f"{path.stem}-{n}", metadata={"title": title.lstrip("# "), "source": path.name})
            for n, text in enumerate(paragraphs, 1)
        ]
    return documents


def answer(checkpoint: str, index: str, question: str, k: int) -> None:
    """Index the corpus, build the chain, and show what goes through it."""
    compressor = RagCompressor("clara", checkpoint=checkpoint)
    retriever = RagCompressRetriever(index=index, compressor=compressor, k=k)
    # Run again with the same --index, this part reads the corpus and encodes nothing.
    print(retriever.add_documents(read_corpus()))

    # The same backend and checkpoint: retriever and chat model share one copy of the weights, and the vectors. In
    # another process, store=index finds them on disk.
    chat = ChatRagCompress("clara", checkpoint=checkpoint, max_tokens=64)
    chain = (
        {"documents": retriever, "query": RunnablePassthrough()}
        | RunnablePassthrough.assign(context=lambda found: "\n\n".join(d.page_content for d in found["documents"]))
        | RunnablePassthrough.assign(
            answer=ChatPromptTemplate.from_template("Context:\n{context}\n\nQuestion: {query}") | chat
        )
    )
    result = chain.invoke(question)
    print(f"\n{question}")
    for document in result["documents"]:
        note = rc.read_note(document.metadata)
        size = f"{note['n_tokens']:4} tokens -> {note['n_slots']:3} vectors"
        # An index that was there before may hold documents without a source.
        source = document.metadata.get("source", "no source")
        print(f"{document.metadata['relevance_score']:7.4f}  {size}  {source}, {document.id}")
    message = result["answer"]
    print(f"prompt: {message.usage_metadata['input_tokens']} places, {message.response_metadata['prompt_mode']}")
    print(f"answer: {message.text!r}")


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint", help="folder or hub id, e.g. apple/CLaRa-7B-E2E/compression-16; default: tiny and random"
    )
    parser.add_argument("--index", help="folder or address of the index; default: a temporary one")
    parser.add_argument("--question", default="Who built the lighthouse on the Eddystone rocks?")
    parser.add_argument("--k", type=int, default=5, help="how many documents the answer is written from")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, index = arguments.checkpoint, arguments.index or f"lancedb://{folder}/corpus"
        if checkpoint is None:
            from ragcompress.testing import tiny

            checkpoint = str(Path(folder) / "clara-tiny")
            tiny("clara").save_pretrained(checkpoint)
            print("A tiny model with random weights: scores and answer are noise, all else is as with the real one.")
        answer(checkpoint, index, arguments.question, arguments.k)


if __name__ == "__main__":
    main()

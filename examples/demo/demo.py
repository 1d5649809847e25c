"""Ask a few questions about lighthouses and see what a compressor keeps of the retrieved text: ``make demo``.

A LlamaIndex pipeline from files to context, with the real MiniLM of the [offline] extra for retrieval and compression;
nothing is downloaded. The same results go into demo.html, with the kept text highlighted in the originals.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import MetadataMode, NodeWithScore
from llama_index.postprocessor.ragcompress import RagCompressPostprocessor
from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

import ragcompress as rc
from ragcompress.html import page

CORPUS = Path(__file__).parent / "corpus"
PAGE = Path(__file__).resolve().parents[2] / "demo.html"
QUESTIONS = (
    "Why was Smeaton's tower taken down, and where does it stand today?",
    "How was the Cape Hatteras lighthouse moved?",
    "Who won a Nobel Prize for work on lighthouses, and for which invention?",
)


class MiniLM(BaseEmbedding):
    """The compressor's own encoder as an embedding model, so that one set of weights serves both."""

    _encoder: Any = PrivateAttr()

    def __init__(self, encoder: Any) -> None:  # noqa: ANN401 (anything with encode)
        super().__init__(model_name="all-MiniLM-L6-v2")
        self._encoder = encoder

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._encoder.encode(texts).vectors.tolist()

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


def read_corpus() -> Iterator[Document]:
    """One document a file; its heading becomes the title, which the compressor reads with every sentence."""
    for path in sorted(CORPUS.glob("*.md")):
        heading, text = path.read_text(encoding="utf-8").split("\n", 1)
        yield Document(text=text.strip(), id_=path.stem, metadata={"title": heading.removeprefix("# ")})


def show(console: Console, question: str, before: list[NodeWithScore], after: list[NodeWithScore]) -> None:
    console.print(Rule(Text(question, style="bold"), align="left", style="dim"))
    kept = {item.node.node_id: rc.read_note(item.node.metadata) for item in after}
    note = next(iter(kept.values()))
    n_tokens, n_slots = note["context_n_tokens"], note["context_n_slots"]
    console.print(Text(f"{n_tokens:,} → {n_slots:,} tokens, {n_tokens / n_slots:.1f}x shorter\n", style="cyan"))
    for item in before:
        spans = kept.get(item.node.node_id, {}).get("spans", [])
        content = item.node.get_content(metadata_mode=MetadataMode.NONE)
        text = Text(content, style="dim")
        for start, end in spans:
            text.stylize("not dim bold yellow", start, end)
        if console.color_system is None:  # a pipe: what cannot be highlighted is shown alone
            text = Text("\n".join(content[start:end] for start, end in spans))
        heading = Text(item.node.metadata["title"], style="bold" if spans else "dim")
        heading.append(f"  retrieved with {item.score:.2f}", style="dim")
        console.print(heading.append("" if spans else ", nothing kept", style="dim"))
        if spans:
            console.print(Padding(text, (0, 0, 1, 2)))
    console.print()


def main() -> None:
    begin = time.perf_counter()
    # Read when torch is first loaded, just below: threads that spin while they wait make a busy machine crawl.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    console = Console()
    compressor = rc.load("recomp-extractive", top_k=4)
    splitter = SentenceSplitter(chunk_size=200, chunk_overlap=0)
    index = VectorStoreIndex.from_documents(
        list(read_corpus()), transformations=[splitter], embed_model=MiniLM(compressor.encoder)
    )
    retriever = index.as_retriever(similarity_top_k=5)
    postprocessor = RagCompressPostprocessor(compressor=compressor)

    contexts = []
    for question in QUESTIONS:
        before = retriever.retrieve(question)
        after = postprocessor.postprocess_nodes(before, query_str=question)
        show(console, question, before, after)
        # The same once more without a framework, for the page. The sentences are remembered, so this takes moments.
        documents = [rc.Document(item.node.get_content(), title=item.node.metadata["title"]) for item in before]
        contexts.append(compressor.compress(question, documents))
    PAGE.write_text(page(*contexts), encoding="utf-8")
    console.print(f"In the browser: {PAGE}", highlight=False, soft_wrap=True)
    console.print(f"{time.perf_counter() - begin:.1f} seconds, nothing downloaded.", style="dim", highlight=False)


if __name__ == "__main__":
    main()

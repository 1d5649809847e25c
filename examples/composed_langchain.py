"""Three compressors as one, in LangChain: rank sentences, keep what is said twice once, stay below a budget.

The pipeline is plain configuration, so that the compressor can be written as JSON and be pickled.

Needs ``pip install 'ragcompress[offline]' langchain-ragcompress langchain-classic``.
"""

from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_ragcompress import RagCompressor

import ragcompress as rc

DOCUMENTS = [
    Document(
        "The bridge was built by monks in 1357. It is 412 metres long and rests on sixteen arches. Pigeons nest below.",
        metadata={"title": "Stone bridge"},
    ),
    Document(
        "Visitors ask how long the stone bridge is. It is 412 metres long, and rests on sixteen arches! A walk across "
        "it takes six minutes.",
        metadata={"title": "Guide to the town"},
    ),
    Document("Bread needs flour, water, salt and time. Bakers rise early.", metadata={"title": "Bread"}),
]
QUESTION = "How long is the stone bridge?"
STAGES = [
    {"backend": "recomp-extractive", "top_k": 6},
    {"backend": "deduplicate", "threshold": 0.8},
    {"backend": "token-budget", "max_tokens": 40},
]


class Shelf(BaseRetriever):
    """Any retriever."""

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return DOCUMENTS


compressor = RagCompressor("pipeline", stages=STAGES)
assert RagCompressor.model_validate_json(compressor.model_dump_json()) == compressor
retriever = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=Shelf())

for document in retriever.invoke(QUESTION):
    note = rc.read_note(document.metadata)
    print(f"{document.metadata['title']}: {document.page_content}")
    # Spans lead into the documents as they were retrieved, through all three stages.
    original = next(each for each in DOCUMENTS if each.metadata["title"] == document.metadata["title"])
    for start, end in note["spans"]:
        print(f"  {start:3} to {end:3}: {original.page_content[start:end]!r}")
print(f"{note['context_n_tokens']} tokens -> {note['context_n_slots']}")

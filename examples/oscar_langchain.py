"""OSCAR in a LangChain chain: documents become vectors for the question, and the model answers from the vectors.

    python examples/oscar_langchain.py                                       # a tiny random model: its answer is noise
    python examples/oscar_langchain.py --checkpoint naver/oscar-mistral-7B   # the published model; needs a GPU

Needs ``pip install langchain-ragcompress``.
"""

import argparse
import tempfile
import warnings
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_ragcompress import ChatRagCompress, RagCompressor

import ragcompress as rc

# The warning is for pipelines that end in a plain LLM; this one ends in ChatRagCompress.
warnings.filterwarnings("ignore", category=rc.HandleWarning)

DOCUMENTS = [
    Document(
        "The stone bridge over the river was built by monks in 1357, after a flood had carried the wooden one away. It "
        "is 412 metres long and rests on 16 arches. Pigeons nest under them, and swans winter below.",
        metadata={"title": "Stone bridge"},
    ),
    Document(
        "Bread needs flour, water, salt and time. Bakers rise early, since an oven must be hot before the town is "
        "awake. A loaf that has risen twice keeps for a week.",
        metadata={"title": "Bread"},
    ),
]


def answer(checkpoint: str, question: str) -> None:
    """Build the chain, and show what goes through it."""
    compressor = RagCompressor("oscar", checkpoint=checkpoint)
    # The same backend and checkpoint: compressor and chat model share one copy of the weights, and the vectors.
    chat = ChatRagCompress("oscar", checkpoint=checkpoint, max_tokens=64)
    retriever = RunnableLambda(lambda query: DOCUMENTS)  # any retriever
    chain = (
        {"documents": retriever, "query": RunnablePassthrough()}
        | RunnablePassthrough.assign(documents=compressor.as_runnable())
        | RunnablePassthrough.assign(context=lambda found: "\n\n".join(d.page_content for d in found["documents"]))
        | RunnablePassthrough.assign(
            answer=ChatPromptTemplate.from_template("Context:\n{context}\n\nQuestion: {query}") | chat
        )
    )
    result = chain.invoke(question)
    for document in result["documents"]:
        note = rc.read_note(document.metadata)
        handle = document.page_content.split("<|rc:ask=")[0]  # behind it stands the question, for the reader
        print(f"{document.metadata['title']}: {note['n_tokens']} tokens -> {note['n_slots']} vectors, {handle}")
    message = result["answer"]
    print(f"prompt: {message.usage_metadata['input_tokens']} places, {message.response_metadata['prompt_mode']}")
    print(f"answer: {message.text!r}")


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="folder or hub id, e.g. naver/oscar-mistral-7B; default: tiny and random")
    parser.add_argument("--question", default="Who built the bridge, and when?")
    arguments = parser.parse_args()
    if arguments.checkpoint is not None:
        answer(arguments.checkpoint, arguments.question)
        return
    from ragcompress.testing import tiny

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "oscar-tiny"
        tiny("oscar").save_pretrained(checkpoint)
        print("A tiny model with random weights: everything is as with the real one, but the answer is noise.")
        answer(str(checkpoint), arguments.question)


if __name__ == "__main__":
    main()

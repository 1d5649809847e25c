"""Encode documents into memory tokens once, keep them on disk, and answer from them, in another process if you like.

python examples/offline_index.py                                    # a tiny random model: shows the way, answers noise
python examples/offline_index.py --checkpoint naver/pisco-mistral   # the published model of seven billion parameters
"""

import argparse
import tempfile
import time
from pathlib import Path

import ragcompress as rc
from ragcompress.testing import tiny

CORPUS = Path(__file__).parent / "demo" / "corpus"


def load(checkpoint: str | None, store: rc.LanceDBStore) -> rc.OfflineCompressor:
    """The compressor, published or tiny; its memories go into the store."""
    if checkpoint is None:
        compressor = tiny("pisco")
        compressor.store = store
        return compressor
    return rc.load("pisco", checkpoint, store=store)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--checkpoint", help="folder or hub id; default: a tiny random model")
parser.add_argument("--store", help="folder of the store; default: a temporary one")
parser.add_argument("--question", default="Who built the lighthouse on the Eddystone rocks?")
arguments = parser.parse_args()

with tempfile.TemporaryDirectory() as temporary:
    # Ingestion: every document is read once. Run again with the same --store, this part costs nothing.
    store = rc.LanceDBStore(arguments.store or Path(temporary) / "memories")
    pisco = load(arguments.checkpoint, store)
    documents = [
        rc.Document(path.read_text(encoding="utf-8"), id=path.stem, title=path.stem.replace("-", " "))
        for path in sorted(CORPUS.glob("*.md"))
    ]
    begin = time.perf_counter()
    memories = pisco.remember(documents)
    n_bytes = store.n_bytes or 0
    print(
        f"{len(memories)} documents in {time.perf_counter() - begin:.1f} s, {n_bytes / len(memories):,.0f} bytes each"
    )

    # Questions: whatever retrieves documents for them, the vectors come from the store.
    reader = load(arguments.checkpoint, rc.LanceDBStore(store.location)).reader(max_new_tokens=32)
    context = pisco.with_options(top_k=5).compress(arguments.question, documents)
    print(f"{context.n_tokens} tokens -> {context.n_slots} slots of {context.segments[0].vectors.shape[1]} numbers")
    for piece in reader.stream(context):
        print(piece, end="", flush=True)
    print("" if arguments.checkpoint else "\n(a random model: this is noise; name a --checkpoint for an answer)")

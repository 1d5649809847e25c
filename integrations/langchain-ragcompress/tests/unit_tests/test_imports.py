"""What importing and constructing costs, and what the package exports."""

import subprocess
import sys

import langchain_ragcompress


def test_exports():
    assert set(langchain_ragcompress.__all__) == {
        "ChatRagCompress",
        "RagCompressor",
        "RagCompressRetriever",
        "__version__",
    }


def test_nothing_heavy_is_imported_before_the_first_call():
    code = (
        "import sys; from langchain_ragcompress import RagCompressor; RagCompressor(top_k=2);"
        "heavy = {'torch', 'transformers', 'langchain_classic', 'langchain_community'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

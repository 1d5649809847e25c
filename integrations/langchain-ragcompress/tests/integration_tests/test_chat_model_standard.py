"""LangChain's own tests for chat models, unmodified, on a small random model: what it writes is noise."""

import pytest
from langchain_ragcompress import ChatRagCompress
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestChatRagCompress(ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def _checkpoints(self, tiny_checkpoint):
        self.checkpoint = str(tiny_checkpoint("pisco"))
        self.other = str(tiny_checkpoint("pisco", 1))

    @property
    def chat_model_class(self):
        return ChatRagCompress

    @property
    def chat_model_params(self):
        return {"backend": "pisco", "model": self.checkpoint, "device": "cpu", "max_tokens": 16}

    @property
    def model_override_value(self):
        return self.other

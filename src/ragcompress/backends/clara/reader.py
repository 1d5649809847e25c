"""CLaRa's reader: answers, and says what memory tokens still hold of a document."""

from __future__ import annotations

from typing import Any

from ragcompress.latent.reader import LatentReader
from ragcompress.options import check_range
from ragcompress.prompts import PARAPHRASE_SYSTEM, PARAPHRASES, AnswerPrompt
from ragcompress.types import CompressedContext


class ClaraReader(LatentReader):
    """Answers with CLaRa's decoder, which was trained to paraphrase its memory tokens, too."""

    def paraphrase(self, context: CompressedContext, *, template: int = 0, **options: Any) -> str:
        """Let the model write down what the vectors of a context say, for inspection.

        Args:
            context: whose segments are read; its query is not.
            template: which of the 13 published prompts; the authors' code draws one at random.
            **options: of ``GenerationOptions``.

        Returns:
            The text.

        Raises:
            OptionError: there is no such template.
        """
        check_range("template", template, at_least=0, at_most=len(PARAPHRASES) - 1, whole=True)
        user = PARAPHRASES[template]
        prompt = AnswerPrompt(
            user=user,
            user_without_documents=user.format(documents=""),
            document=self.prompt.document,
            handle=self.prompt.handle,
            system=PARAPHRASE_SYSTEM,
        )
        reader = LatentReader(
            self.model, store=self.store, prompt=prompt, batch_tokens=self.batch_tokens, **self.defaults
        )
        return reader.answer([context], **options)[0]

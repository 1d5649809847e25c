"""CLaRa's reader: answers, and says what memory tokens still hold of a document."""

from __future__ import annotations

from dataclasses import replace
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
        prompt = paraphrase_prompt(PARAPHRASES[template], self.prompt)
        reader = LatentReader(
            self.model, store=self.store, prompt=prompt, batch_tokens=self.batch_tokens, **self.defaults
        )
        return reader.answer([context], **options)[0]


def paraphrase_prompt(template: str, answering: AnswerPrompt) -> AnswerPrompt:
    """Build the prompt of a paraphrase.

    Args:
        template: one of the published ones.
        answering: the model's prompt for answers, which says how a document is written.

    Returns:
        The prompt; it has no place for a question.
    """
    return replace(
        answering, system=PARAPHRASE_SYSTEM, user=template, user_without_documents=template.format(documents="")
    )

"""Every built-in backend keeps the contract: one class each, which says how to build it tiny."""

from ragcompress.testing import CompressorContract, tiny

# One class of each backend reads a document of ten thousand sentences; its variants a shorter one.
VARIANT = 2_000


class TestRecompExtractive(CompressorContract):
    def make(self):
        return tiny("recomp-extractive")


class TestRecompExtractiveWithStore(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        import ragcompress as rc

        compressor = tiny("recomp-extractive")
        compressor.store = rc.InMemoryStore()
        return compressor


class TestRecompExtractiveWithBudget(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        return tiny("recomp-extractive").with_options(max_tokens=60)


class TestRecompExtractivePerDocument(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        return tiny("recomp-extractive").with_options(pool="document", ratio=1.5)


class TestRecompExtractiveInCharacters(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        return tiny("recomp-extractive").with_options(top_k=100, token_counter="characters")


class TestRecompExtractiveFirstSentences(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        return tiny("recomp-extractive").with_options(titles="first_sentence", max_tokens=60, splitter="rules")


class TestRecompExtractivePaper(CompressorContract):
    long_document_sentences = VARIANT
    document_order = False

    def make(self):
        return tiny("recomp-extractive").with_options(preset="paper", top_k=2)


class TestRecompExtractiveBergen(CompressorContract):
    long_document_sentences = VARIANT
    document_order = False

    def make(self):
        return tiny("recomp-extractive").with_options(preset="bergen")


class TestRecompExtractiveBestFirst(CompressorContract):
    long_document_sentences = VARIANT
    document_order = False

    def make(self):
        return tiny("recomp-extractive").with_options(order="score", titles="ignore", normalize=True)


class TestRecompExtractiveHybrid(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        return tiny("recomp-extractive").with_options(scorer="hybrid", hops=1)


class TestRecompExtractiveHybridTwoHops(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        return tiny("recomp-extractive").with_options(scorer="hybrid", hops=2, max_tokens=60)


class TestRecompExtractiveWords(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        return tiny("recomp-extractive").with_options(scorer="bm25")


class TestRecompExtractiveWordsTwoHops(CompressorContract):
    long_document_sentences = VARIANT
    document_order = False

    def make(self):
        return tiny("recomp-extractive").with_options(scorer="bm25", hops=2, order="score", titles="first_sentence")


class TestRecompAbstractive(CompressorContract):
    def make(self):
        return tiny("recomp-abstractive")


class TestRecompAbstractivePerDocument(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        return tiny("recomp-abstractive").with_options(per_document=True, on_long="split", max_source_tokens=128)


class TestRecompAbstractiveScored(CompressorContract):
    long_document_sentences = 500  # each has to be encoded

    def make(self):
        return tiny("recomp-abstractive").with_options(
            faithfulness="recomp-extractive", on_empty="keep_best", token_counter="characters"
        )


class TestProvence(CompressorContract):
    def make(self):
        return tiny("provence")


class TestProvenceUpstream(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        return tiny("provence").with_options(preset="upstream", always_keep_title=True)


class TestProvenceReranking(CompressorContract):
    long_document_sentences = VARIANT
    document_order = False

    def make(self):
        return tiny("provence").with_options(
            preset="prob-mean", top_k=2, reorder=True, min_sentences=1, score_window="best", token_counter="words"
        )


class TestPisco(CompressorContract):
    def make(self):
        return tiny("pisco")


class TestPiscoWithStore(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        import ragcompress as rc

        compressor = tiny("pisco").with_options(titles="ignore", top_k=3)
        compressor.store = rc.InMemoryStore()
        return compressor


class TestPiscoTruncating(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        return tiny("pisco").with_options(on_long="truncate", max_length=64)


class TestOscar(CompressorContract):
    def make(self):
        return tiny("oscar")


class TestOscarReranking(CompressorContract):
    long_document_sentences = VARIANT
    document_order = False

    def make(self):
        import ragcompress as rc

        compressor = tiny("oscar").with_options(top_k=2, order="score")
        compressor.store = rc.InMemoryStore()
        return compressor


class TestClara(CompressorContract):
    def make(self):
        return tiny("clara")


class TestClaraRetrieving(CompressorContract):
    long_document_sentences = VARIANT
    document_order = False

    def make(self):
        import ragcompress as rc

        compressor = tiny("clara").with_options(top_k=3)
        compressor.store = rc.InMemoryStore()
        return compressor


class TestPipelineOfText(CompressorContract):
    def make(self):
        import ragcompress as rc

        return rc.Pipeline(
            [tiny("recomp-extractive").with_options(top_k=8), rc.Deduplicate(0.7, shingle_size=1), rc.TokenBudget(60)]
        )


class TestPipelineOfAPrunerAndARanker(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        import ragcompress as rc

        return rc.Pipeline([tiny("provence"), tiny("recomp-extractive").with_options(max_tokens=60)])


class TestPipelineOfTwoRankers(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        import ragcompress as rc

        # Another splitter and another counter: spans of the second stage reach over pieces that the first one kept.
        second = {"splitter": "lines", "token_counter": "characters", "top_k": 3}
        return rc.Pipeline(
            [tiny("recomp-extractive").with_options(top_k=6), tiny("recomp-extractive").with_options(**second)]
        )


class TestPipelineToVectors(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        import ragcompress as rc

        last = tiny("pisco")
        last.store = rc.InMemoryStore()
        return rc.Pipeline([rc.Deduplicate(0.9), tiny("recomp-extractive").with_options(top_k=8), last])


class TestPipelineToVectorsForTheQuestion(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        import ragcompress as rc

        last = tiny("oscar")
        last.store = rc.InMemoryStore()
        return rc.Pipeline([tiny("recomp-extractive").with_options(ratio=2), rc.TokenBudget(80), last])


class TestPipelineWithASummary(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        import ragcompress as rc

        # One counter for all: a text that is written anew may be longer in another one than what it was written from.
        written = tiny("recomp-abstractive").with_options(token_counter="words")
        return rc.Pipeline(
            [rc.TokenBudget(200), written, tiny("recomp-extractive").with_options(top_k=5, token_counter="words")]
        )


class TestDeduplicate(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        import ragcompress as rc

        # Sentences of the long document differ in a number alone; by single words that is a repetition.
        return rc.Deduplicate(0.6, shingle_size=1)


class TestDeduplicateByEncoder(CompressorContract):
    long_document_sentences = 2_000

    def make(self):
        import ragcompress as rc

        return rc.Deduplicate(0.95, encoder=tiny("recomp-extractive"), keep="best", token_counter="characters")


class TestTokenBudget(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        import ragcompress as rc

        return rc.TokenBudget(60)


class TestTokenBudgetInCharacters(CompressorContract):
    long_document_sentences = VARIANT

    def make(self):
        import ragcompress as rc

        return rc.TokenBudget(150, token_counter="characters")

"""Parity with CLaRa's published format: P1, P2, P5 to P8, P11 and P12 on the golden checkpoint."""

import json
import shutil

import pytest
import torch

import ragcompress as rc
from ragcompress.backends.clara.reader import paraphrase_prompt
from ragcompress.latent.adapters import active_adapter
from ragcompress.latent.checkpoint import save_latent
from ragcompress.latent.reader import LatentReader
from ragcompress.latent.requests import prepare
from ragcompress.latent.text import render_chat
from ragcompress.nn.alignment import mean_alignment
from ragcompress.nn.topk import differentiable_top_k
from ragcompress.prompts import PARAPHRASE_SYSTEM, PARAPHRASES, QUESTIONS_SYSTEM, QUESTIONS_USER
from tests.parity.latent import GOLDENS, TOLERANCE, model, tensors, texts, unpadded

NAME = "clara-e2e-tiny"
GOLDEN = texts(NAME)


def clara(**options):
    return rc.load("clara", GOLDENS / NAME, device="cpu", preset="upstream", store=rc.InMemoryStore(), **options)


def rows():
    return model(NAME).documents.rows(model(NAME).encoder_text, GOLDEN["documents"])


def test_p1_tokens_and_padding():
    text = model(NAME).decoder.text
    assert {token: text.id_of(token) for token in GOLDEN["special_token_ids"]} == GOLDEN["special_token_ids"]
    assert text.pad_id == GOLDEN["pad_token_id"]
    assert len(model(NAME).slot_tokens) == GOLDEN["n_memory_tokens"]


def test_p2_encoder_and_query_ids():
    golden = tensors(NAME)
    assert [row.ids for row in rows()] == unpadded(golden["encoder_input_ids"], golden["encoder_attention_mask"])
    asked = model(NAME).documents.rows(model(NAME).encoder_text, GOLDEN["questions"])
    unpadded_queries = [list(row.tolist()) for row in golden["query_input_ids"]]
    for row, expected in zip(asked, unpadded_queries, strict=True):
        assert row.ids == expected[len(expected) - len(row.ids) :]
        assert set(expected[: len(expected) - len(row.ids)]) <= {GOLDEN["pad_token_id"]}


def test_p5_p6_memory_and_queries():
    found = torch.stack(model(NAME).encoder.encode(rows()).memories)
    assert (found - tensors(NAME)["memory"]).abs().max() < TOLERANCE
    queries = torch.stack([each.flatten() for each in clara().encode_queries(GOLDEN["questions"])])
    assert (queries - tensors(NAME)["query_memory_flat"]).abs().max() < TOLERANCE


def test_p11_alignment():
    golden, encoder = tensors(NAME), model(NAME).encoder
    ids, mask = golden["encoder_input_ids"], golden["encoder_attention_mask"]
    with torch.no_grad(), active_adapter(encoder.adapter):
        states = encoder.model(input_ids=ids, attention_mask=mask).last_hidden_state
    is_memory = torch.zeros_like(mask)
    is_memory[:, -GOLDEN["n_memory_tokens"] :] = 1
    assert abs(mean_alignment(states, mask, is_memory).item() - golden["mse_loss"].item()) < TOLERANCE


def test_p11_cosines_and_selection():
    golden = tensors(NAME)
    compressor = clara(top_k=2)
    memories = compressor.encode([rc.Document(text) for text in GOLDEN["documents"]])
    queries = compressor.encode_queries(GOLDEN["questions"])
    scores = torch.tensor([[each[0] for each in compressor.score(query, memories)] for query in queries])
    assert (scores - golden["retrieval_cosine"]).abs().max() < TOLERANCE
    assert torch.equal(differentiable_top_k(scores, 2).indices, golden["topk_idx"])
    for question, expected in zip(GOLDEN["questions"], golden["topk_idx"].tolist(), strict=True):
        context = compressor.compress(question, GOLDEN["documents"])
        assert [segment.sources[0].document for segment in context.segments] == expected
        assert [segment.score for segment in context.segments] == sorted(
            (segment.score for segment in context.segments), reverse=True
        )


def test_p7_p8_answers_from_all_documents():
    golden = tensors(NAME)
    contexts = clara().compress_batch(GOLDEN["questions"], [GOLDEN["documents"][:3], GOLDEN["documents"][3:]])
    reader = clara().reader()
    embeddings, mask = reader.inputs(contexts)
    real = mask.bool()
    assert torch.equal(mask, golden["decoder_attention_mask"])
    assert (embeddings - golden["decoder_inputs_embeds"])[real].abs().max() < TOLERANCE
    with torch.no_grad():
        logits = reader.model.decoder.forward(embeddings, mask).logits[:, -1]
    assert (logits - golden["decoder_last_logits"]).abs().max() < TOLERANCE
    assert reader.answer(contexts, max_new_tokens=12) == GOLDEN["generate_from_compressed"]
    for context, prompt in zip(contexts, GOLDEN["prompt_stage1_2"], strict=True):
        found = prepare(context, reader.model, reader.prompt, "auto", 10_000)
        assert reader.model.decoder.text.tokenizer.decode(found.ids) == prompt


def test_p8_the_whole_pipeline_from_questions():
    """Every document is a candidate of every question; the best two are answered from, best first."""
    compressor = clara(top_k=2)
    contexts = compressor.compress_batch(GOLDEN["questions"], [GOLDEN["documents"]] * 2)
    reader = compressor.reader()
    assert reader.answer(contexts, max_new_tokens=12) == GOLDEN["generate_from_questions"]
    for context, prompt in zip(contexts, GOLDEN["prompt_stage2"], strict=True):
        found = prepare(context, reader.model, reader.prompt, "auto", 10_000)
        assert reader.model.decoder.text.tokenizer.decode(found.ids) == prompt
    # The same through handles, as a framework would carry them.
    prompt = "\n".join(rc.attach_question(contexts[0].query, [part.text for part in contexts[0].by_document()]))
    assert reader.complete(prompt, max_new_tokens=12) == GOLDEN["generate_from_questions"][0]


def test_pretraining_prompt():
    length, expected = GOLDEN["prompt_qa_pretraining"]
    text = model(NAME).decoder.text
    slots = model(NAME).placeholders(8) + "<SEP>"
    prompt = render_chat(text.tokenizer, QUESTIONS_SYSTEM, QUESTIONS_USER.format(documents=slots))
    assert expected.startswith(prompt)
    assert len(text.encode([prompt], special_tokens=False)[0].ids) == length


@pytest.mark.parametrize("template", range(13))
def test_p3_paraphrase_prompts(template):
    compressor = clara()
    context = compressor.compress("", GOLDEN["documents"][:1])
    prompt = paraphrase_prompt(PARAPHRASES[template], compressor.model.prompt)
    found = prepare(context, compressor.model, prompt, "auto", 10_000)
    slots = model(NAME).placeholders(8) + "<SEP>"
    user = PARAPHRASES[template].replace("{documents}", slots)
    assert slots in user
    text = model(NAME).decoder.text
    assert text.tokenizer.decode(found.ids) == render_chat(text.tokenizer, PARAPHRASE_SYSTEM, user)


def test_paraphrases_show_what_the_memory_says():
    compressor = clara()
    context = compressor.compress("", GOLDEN["documents"][:1])
    reader = compressor.reader(max_new_tokens=6)
    prompt = paraphrase_prompt(PARAPHRASES[3], reader.prompt)
    expected = LatentReader(reader.model, prompt=prompt, max_new_tokens=6).answer([context])[0]
    assert reader.paraphrase(context, template=3) == expected
    assert expected.startswith(reader.paraphrase(context, template=3, max_new_tokens=2).rstrip("\ufffd"))
    with pytest.raises(rc.OptionError, match="template"):
        reader.paraphrase(context, template=13)


@pytest.mark.parametrize("stage", ["stage1", "stage1_2", "stage2", "stage2_reasoning"])
def test_p12_every_adapter_in_the_file_is_loaded_whatever_the_stage(tmp_path, stage):
    """The authors' own loader leaves the generator untrained in some stages, unless it is told otherwise."""
    shutil.copytree(GOLDENS / NAME, tmp_path / "clara")
    path = tmp_path / "clara/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"training_stage": stage}))
    loaded = rc.load(
        "clara", tmp_path / "clara", base=GOLDENS / "tiny-mistral", device="cpu", preset="upstream", top_k=2
    )
    contexts = loaded.compress_batch(GOLDEN["questions"], [GOLDEN["documents"]] * 2)
    assert loaded.reader().answer(contexts, max_new_tokens=12) == GOLDEN["generate_from_questions"]


def test_a_checkpoint_without_a_query_reasoner_compresses_and_answers(tmp_path):
    shutil.copytree(GOLDENS / NAME, tmp_path / "clara")
    adapters = torch.load(tmp_path / "clara/adapters.pth", weights_only=True)
    adapters.pop("query_reasoner_adapter")
    torch.save(adapters, tmp_path / "clara/adapters.pth")
    options = {"base": GOLDENS / "tiny-mistral", "device": "cpu"}
    loaded = rc.load("clara", tmp_path / "clara", **options)
    assert loaded.reader().answer([loaded.compress("Who?", GOLDEN["documents"])], max_new_tokens=2)
    with pytest.raises(rc.OptionError, match=r"retrieval needs a query reasoner, which this checkpoint \(stage2\)"):
        loaded.encode_queries(["Who?"])
    with pytest.raises(rc.OptionError, match="top_k=2 needs a query reasoner"):
        loaded.with_options(top_k=2)
    with pytest.raises(rc.OptionError, match="top_k=2 needs a query reasoner"):
        rc.load("clara", tmp_path / "clara", top_k=2, **options)


def test_an_empty_question_ranks_nothing():
    with pytest.raises(rc.InputError, match="top_k=2 ranks by it"):
        clara(top_k=2).compress(" ", GOLDEN["documents"])
    assert clara().compress("", GOLDEN["documents"]).segments


@pytest.mark.parametrize("layout", ["ragcompress", "published"])
def test_saved_and_loaded_it_is_the_same(tmp_path, layout):
    save_latent(model(NAME), tmp_path / "saved", layout=layout)
    loaded = rc.load(
        "clara", tmp_path / "saved", base=GOLDENS / "tiny-mistral", device="cpu", preset="upstream", top_k=2
    )
    contexts = loaded.compress_batch(GOLDEN["questions"], [GOLDEN["documents"]] * 2)
    assert loaded.reader().answer(contexts, max_new_tokens=12) == GOLDEN["generate_from_questions"]


def test_other_backends_name_the_right_one():
    for backend in ("pisco", "oscar"):
        with pytest.raises(rc.OptionError, match=r"does not read clara-v1 checkpoints. rc.load\('clara', ...\) does"):
            rc.load(backend, GOLDENS / NAME, device="cpu")
    with pytest.raises(rc.OptionError, match=r"rc.load\('pisco', ...\) does"):
        rc.load("clara", GOLDENS / "pisco-v1-tiny", device="cpu")

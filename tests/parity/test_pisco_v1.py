"""Parity with PISCO's and OSCAR's hub format (2025): checks P1, P2, P5 to P8 and P10 on the golden checkpoints."""

import pytest
import torch

import ragcompress as rc
from ragcompress.latent.adapters import active_adapter
from tests.parity.latent import GOLDENS, TOLERANCE, model, tensors, texts, unpadded

NAMES = ("pisco-v1-tiny", "oscar-v1-tiny")


def rows_of(name):
    golden, loaded = texts(name), model(name)
    if name == "oscar-v1-tiny":
        return loaded.pairs.rows(loaded.encoder_text, golden["documents"], golden["questions"])
    return loaded.documents.rows(loaded.encoder_text, golden["documents"])


def contexts_of(name):
    """Two questions with three documents each, compressed as published."""
    golden = texts(name)
    compressor = rc.load(name.split("-")[0], GOLDENS / name, device="cpu", preset="upstream")
    questions = golden["questions"] if name == "pisco-v1-tiny" else golden["questions"][::3]
    return compressor, compressor.compress_batch(questions, [golden["documents"][:3], golden["documents"][3:]])


def test_p1_tokens_follow_on_the_base_vocabulary_in_the_published_order():
    text = model("pisco-v1-tiny").decoder.text
    assert {token: text.id_of(token) for token in texts("pisco-v1-tiny")["special_token_ids"]} == texts(
        "pisco-v1-tiny"
    )["special_token_ids"]
    assert len(text) == 523
    assert text.pad_id == text.id_of(text.bos)  # the base has no pad token
    decoder = model("pisco-v1-tiny").decoder.model
    assert decoder.get_input_embeddings().weight.shape == decoder.get_output_embeddings().weight.shape == (523, 64)


@pytest.mark.parametrize("name", NAMES)
def test_p2_encoder_ids(name):
    """Short, over-long (end token cut off), empty and non-English documents."""
    golden = tensors(name)
    expected = unpadded(golden["encoder_input_ids"], golden["encoder_attention_mask"])
    assert [row.ids for row in rows_of(name)] == expected
    memory_ids = {model(name).encoder_text.id_of(f"<MEM{index}>") for index in range(8)}
    for row in rows_of(name):
        assert [token in memory_ids for token in row.ids] == row.is_memory


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch_tokens", [1, 300, 100_000])
def test_p5_p6_memory_in_batches_of_any_size(name, batch_tokens):
    encoder = model(name).encoder
    before, encoder.batch_tokens = encoder.batch_tokens, batch_tokens
    try:
        found = torch.stack(encoder.encode(rows_of(name)).memories)
    finally:
        encoder.batch_tokens = before
    assert (found - tensors(name)["memory"]).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_p6_padded_as_published(name):
    """Padded on the left to the maximum, with the published mask, through the same weights."""
    golden, encoder = tensors(name), model(name).encoder
    with torch.no_grad(), active_adapter(encoder.adapter):
        states = encoder.model(
            input_ids=golden["encoder_input_ids"], attention_mask=golden["encoder_attention_mask"]
        ).last_hidden_state[:, -8:]
        found = states if encoder.connector is None else encoder.connector(states)
    assert (found - tensors(name)["memory"]).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_p6_padding_changes_nothing(name):
    encoder = model(name).encoder
    together = encoder.encode(rows_of(name)).memories
    for row, expected in zip(rows_of(name), together, strict=True):
        assert (encoder.encode([row]).memories[0] - expected).abs().max() < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_p7_prompt_and_splice(name):
    golden = tensors(name)
    compressor, contexts = contexts_of(name)
    reader = compressor.reader()
    embeddings, mask = reader.inputs(contexts)
    assert torch.equal(mask, golden["decoder_attention_mask"])
    real = mask.bool()
    assert (embeddings - golden["decoder_inputs_embeds"])[real].abs().max() < TOLERANCE
    # Exactly the vectors' places differ from the embedding rows.
    plain = model(name).decoder.embed(golden["decoder_input_ids"])
    changed = (embeddings != plain).any(dim=-1) & real
    slots = torch.isin(golden["decoder_input_ids"], torch.arange(512, 520))
    assert torch.equal(changed, slots)
    assert changed.sum(dim=1).tolist() == [24, 24]


@pytest.mark.parametrize("name", NAMES)
def test_p3_prompts_as_rendered(name):
    from ragcompress.latent.requests import prepare

    compressor, contexts = contexts_of(name)
    golden = tensors(name)
    expected = unpadded(golden["decoder_input_ids"], golden["decoder_attention_mask"])
    for context, ids, prompt in zip(contexts, expected, texts(name)["prompt"], strict=True):
        found = prepare(context, compressor.model, compressor.model.prompt, "auto", 10_000)
        assert found.ids == ids
        # Byte-level decoding writes the prompt back as it was rendered.
        assert compressor.model.decoder.text.tokenizer.decode(found.ids) == prompt


@pytest.mark.parametrize("name", NAMES)
def test_p8_logits_and_greedy_answers(name):
    golden = tensors(name)
    compressor, contexts = contexts_of(name)
    reader = compressor.reader()
    embeddings, mask = reader.inputs(contexts)
    with torch.no_grad():
        logits = compressor.model.decoder.forward(embeddings, mask).logits[:, -1]
    assert (logits - golden["decoder_last_logits"]).abs().max() < TOLERANCE
    ids = compressor.model.decoder.generate(embeddings, mask, max_new_tokens=12, do_sample=False)
    assert torch.equal(ids, golden["generated_ids"])
    assert reader.answer(contexts, max_new_tokens=12) == texts(name)["generated"]
    assert ["".join(reader.stream(each, max_new_tokens=12)) for each in contexts] == texts(name)["generated"]


@pytest.mark.parametrize("name", NAMES)
def test_p8_decoding_from_vectors_equals_a_loop_of_forward_passes(name):
    compressor, contexts = contexts_of(name)
    decoder = compressor.model.decoder
    embeddings, mask = compressor.reader().inputs(contexts[:1])
    written = []
    with torch.no_grad():
        for _ in range(12):
            best = decoder.forward(embeddings, mask).logits[:, -1].argmax(dim=-1)
            written.append(int(best))
            embeddings = torch.cat([embeddings, decoder.embed(best[:, None])], dim=1)
            mask = torch.cat([mask, torch.ones(1, 1, dtype=mask.dtype)], dim=1)
    assert written == tensors(name)["generated_ids"][0].tolist()


def test_answers_through_handles_equal_answers_from_contexts():
    for name in NAMES:
        compressor, contexts = contexts_of(name)
        reader = compressor.reader()
        prompts = []
        for context in contexts:
            parts = rc.attach_question(context.query, [part.text for part in context.by_document()])
            prompts.append("\n\n".join(parts))
        found = reader.generate(prompts, max_new_tokens=12)
        assert [each.text for each in found] == texts(name)["generated"]
        assert {each.prompt_mode for each in found} == {"native"}

"""Parity with the 2026 rewrite: compressor ids, memory, splice, logits, answers, fine-tuning and auto-encoding losses."""

from dataclasses import replace

import torch
from torch.nn.functional import cross_entropy

from ragcompress.latent.adapters import add_adapters
from ragcompress.latent.requests import prepare
from ragcompress.nn.splice import splice
from ragcompress.types import CompressedContext, Document, MemorySegment, Source
from tests.parity.latent import TOLERANCE, model, tensors, texts, unpadded

NAME = "pisco-v2-tiny"
# The golden batches were collated with a shorter compressor input than the default of 128.
LENGTH = 64
BATCH = [0, 1, 2, 3, 5]  # the documents of the two questions, in their order


def rows(indices=BATCH):
    loaded = model(NAME)
    form = replace(loaded.documents, max_length=LENGTH)
    return form.rows(loaded.encoder_text, [texts(NAME)["documents"][index] for index in indices])


def memories():
    return model(NAME).encoder.encode(rows()).memories


def test_compressor_ids_and_numbers_of_memory_tokens():
    golden = tensors(NAME)
    expected = unpadded(golden["finetune.compressor_input_ids"], golden["finetune.compressor_attention_mask"])
    assert [row.ids for row in rows()] == expected
    assert [sum(row.is_memory) for row in rows()] == [5, 2, 9, 9, 3]


def test_memory():
    found = memories()
    assert (torch.cat(found) - tensors(NAME)["finetune.memory"]).abs().max() < TOLERANCE
    alone = model(NAME).encoder.encode(rows()[1:2]).memories[0]
    assert (alone - found[1]).abs().max() < 1e-5


def context(question, vectors):
    segments = tuple(MemorySegment(each, (Source(index),)) for index, each in enumerate(vectors))
    documents = tuple(Document(str(index)) for index in range(len(vectors)))
    return CompressedContext(question, documents, segments, space=model(NAME).space)


def contexts():
    found = memories()
    questions = texts(NAME)["questions"]
    return [context(questions[0], found[:3]), context(questions[1], found[3:])]


def test_prompts_logits_and_answers():
    from ragcompress.latent.reader import LatentReader

    loaded = model(NAME)
    reader = LatentReader(loaded)
    for index, (each, golden) in enumerate(zip(contexts(), texts(NAME)["generation"], strict=True)):
        prepared = prepare(each, loaded, loaded.prompt, "auto", 10_000)
        assert loaded.decoder.text.tokenizer.decode(prepared.ids) == golden["prompt"]
        assert [place.n_slots for place in prepared.vectors] == golden["n_memory_tokens"]
        embeddings, mask = reader.inputs([each])
        with torch.no_grad():
            logits = loaded.decoder.forward(embeddings, mask).logits[:, -1]
        assert (logits - tensors(NAME)[f"generate.{index}.last_logits"]).abs().max() < TOLERANCE
        assert reader.answer([each], max_new_tokens=12) == [golden["generated"]]
    both = reader.answer(contexts(), max_new_tokens=12)
    assert both == [golden["generated"] for golden in texts(NAME)["generation"]]


def loss_of(stage, vectors):
    """Splice into the collated batch; the loss is the token mean over the batch (P13)."""
    loaded, golden = model(NAME), tensors(NAME)
    ids = golden[f"{stage}.decoder_input_ids"]
    mem = loaded.decoder.text.id_of("<MEM>")
    embeddings = splice(loaded.decoder.embed(ids), ids == mem, vectors)
    logits = loaded.decoder.forward(embeddings, golden[f"{stage}.decoder_attention_mask"]).logits
    labels = golden[f"{stage}.labels"]
    return embeddings, cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def test_finetuning_loss_and_gradients():
    """Gradients flow from the answer through splice and connector into the compressor, and into the adapter."""
    loaded, golden = model(NAME), tensors(NAME)
    parameters = {
        "compressor.model.layers.0.self_attn.q_proj.weight": loaded.encoder.model.layers[0].self_attn.q_proj.weight,
        "connector.0.weight": loaded.encoder.connector[0].weight,
        **{
            f"decoder.{name}": parameter
            for name, parameter in loaded.decoder.model.named_parameters()
            if name.startswith("model.layers.0.self_attn.q_proj.lora_")
        },
    }
    try:
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        vectors, _ = loaded.encoder.forward(rows())
        embeddings, loss = loss_of("finetune", vectors)
        real = golden["finetune.decoder_attention_mask"].bool()
        assert (embeddings - golden["finetune.decoder_inputs_embeds"])[real].abs().max() < TOLERANCE
        assert abs(loss.item() - golden["finetune.loss"].item()) < TOLERANCE
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        wanted = {name for name in golden if name.startswith("finetune.grad.")}
        assert wanted == {f"finetune.grad.{name}" for name in parameters}
        for name, found in zip(parameters, gradients, strict=True):
            expected = golden[f"finetune.grad.{name}"]
            assert (found - expected).abs().max() < 1e-3 * expected.abs().max(), name
    finally:
        for parameter in parameters.values():
            parameter.requires_grad_(False)


def test_autoencoding_loss():
    loaded, golden = model(NAME), tensors(NAME)
    with torch.no_grad():
        vectors, _ = loaded.encoder.forward(rows([0, 1]))
        _, loss = loss_of("autoencode", vectors)
    assert abs(loss.item() - golden["autoencode.loss"].item()) < TOLERANCE


def test_p13_labels_are_the_answer_and_its_end_alone():
    golden = tensors(NAME)
    for ids, labels in zip(golden["finetune.decoder_input_ids"], golden["finetune.labels"], strict=True):
        learnt = labels >= 0
        assert torch.equal(ids[learnt], labels[learnt])
        first = int(learnt.nonzero()[0])
        assert learnt[first:].all()  # padding stands on the left, so the answer runs to the end of the row
        assert labels[-1] == model(NAME).decoder.text.tokenizer.eos_token_id


def test_a_second_adapter_leaves_the_first_alone():
    from ragcompress.latent.tiny import tiny_pisco

    loaded = tiny_pisco()
    ids = torch.tensor([[5, 6, 7]])
    before = loaded.encoder.states(ids, torch.ones_like(ids))
    add_adapters(loaded.decoder.model, {"another": 2})
    assert torch.equal(before, loaded.encoder.states(ids, torch.ones_like(ids)))

"""The formula fixture: weights that anyone can recompute, and the numbers that upstream code gave for them (P4, P5).

A Mistral with two layers; element i of a tensor is ((31 i² + 17 i + 101 h) mod 1009) / 1009 - 0.5, scaled by kind, where
h is the sum of the character codes of its name.
"""

import torch
from torch import nn
from transformers import MistralConfig, MistralForCausalLM

from ragcompress.latent.adapters import active_adapter, adapter_parameters, add_adapters
from ragcompress.latent.encoder import MemoryEncoder
from ragcompress.latent.formats import Row
from ragcompress.nn.alignment import mean_alignment
from ragcompress.nn.batching import pad
from ragcompress.nn.memory_tokens import append_memory
from ragcompress.nn.splice import splice
from ragcompress.nn.topk import differentiable_top_k

ADAPTERS = ("decoder_adapter", "encoder_adapter", "query_reasoner_adapter")
MEMORY, SEPARATOR = [335, 336, 337, 338], 341
DOCUMENTS = [[10, 11, 12], list(range(20, 26)), list(range(30, 41)), [50]]
FIRST_VECTORS = {
    (0, 0): (-0.34370, -1.15193, 1.59147, 0.38945),
    (0, 3): (-0.02053, -1.12756, 1.23075, -0.34679),
    (1, 0): (-0.74478, -1.70410, 1.01651, 1.00314),
    (2, 0): (-0.66814, -1.69145, 0.88824, 1.01133),
    (2, 3): (-0.29279, -1.44921, 0.79556, -0.03840),
    (3, 0): (-0.53109, -1.32365, 1.28526, 0.98265),
}
NORMS = (11.23027, 11.23251, 11.23523, 11.22460)


def fill(name, shape):
    h = sum(map(ord, name))
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.int64)
    v = (((31 * i * i + 17 * i + 101 * h) % 1009).double() / 1009 - 0.5).float().reshape(shape)
    if "norm" in name:
        return 1 + 0.2 * v
    return (0.4 if "lora_" in name else 2.0 if "embed_tokens" in name else 0.3) * v


def base():
    config = MistralConfig(
        vocab_size=342,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        sliding_window=None,
    )
    model = MistralForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(fill(name, parameter.shape))
    return model


def adapted():
    model = base()
    add_adapters(model, dict.fromkeys(ADAPTERS, 4))
    with torch.no_grad():
        for adapter in ADAPTERS:
            for name, parameter in adapter_parameters(model, adapter).items():
                parameter.copy_(fill(f"{adapter}:{name}", parameter.shape))
    return model.eval()


def merged(adapter):
    model = base()
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and name != "lm_head":
                out, width = module.weight.shape
                b = fill(f"{adapter}:{name}.lora_B.weight", (out, 4))
                module.weight += 2.0 * b @ fill(f"{adapter}:{name}.lora_A.weight", (4, width))
    return model


def rows():
    return [Row(*append_memory(([340, 1, *document, 2])[:12], MEMORY), 0) for document in DOCUMENTS]


def test_p4_an_adapter_chosen_per_forward_equals_merged_weights():
    model = adapted()
    ids = torch.tensor([rows()[2].ids])
    with torch.no_grad():
        for adapter in (*ADAPTERS, None, *reversed(ADAPTERS)):
            expected = (base() if adapter is None else merged(adapter))(ids).logits
            with active_adapter(adapter):
                found = model(ids).logits
            assert (found - expected).abs().max() < 1e-5, adapter


def test_p5_compression():
    encoder = MemoryEncoder(adapted().model, pad_id=1, adapter="encoder_adapter")
    found = encoder.encode(rows()).memories
    for (document, slot), expected in FIRST_VECTORS.items():
        assert (found[document][slot, :4] - torch.tensor(expected)).abs().max() < 1e-4
    assert [round(each.norm().item(), 4) for each in found] == [round(norm, 4) for norm in NORMS]


def test_p11_alignment_cosines_and_selection():
    model = adapted()
    ids, mask = pad([row.ids for row in rows()], 1, "cpu")
    is_memory = torch.zeros_like(mask)
    for index, row in enumerate(rows()):
        is_memory[index, : len(row.is_memory)] = torch.tensor(row.is_memory)
    with torch.no_grad(), active_adapter("encoder_adapter"):
        states = model.model(input_ids=ids).last_hidden_state
    assert abs(mean_alignment(states, mask, is_memory).item() - 0.451606) < 1e-4
    memories = states[is_memory.bool()].reshape(4, -1)
    asked = [Row(*append_memory([340, 1, *query, 2], MEMORY), 0) for query in ([60, 61], [70, 71, 72])]
    encoder = MemoryEncoder(model.model, pad_id=1, adapter="query_reasoner_adapter")
    queries = torch.stack([each.flatten() for each in encoder.encode(asked).memories])
    expected = torch.tensor([[-0.35478, -1.32358, 1.14912, 1.26658], [-0.56675, -1.31413, 0.91107, 0.77348]])
    assert (queries[:, :4] - expected).abs().max() < 1e-4
    unit = nn.functional.normalize
    cosines = unit(queries, dim=-1) @ unit(memories, dim=-1).T
    golden = torch.tensor([[0.88379, 0.90806, 0.94180, 0.89999], [0.86783, 0.89639, 0.90811, 0.89453]])
    assert (cosines - golden).abs().max() < 1e-4
    found = differentiable_top_k(cosines, 2)
    assert found.indices.tolist() == [[2, 1], [2, 1]]
    selected = (found.weights @ memories).reshape(2 * 2 * 4, -1)  # best first, as published
    assert abs(answer_loss(model, selected).item() - 5.526366) < 1e-4


def test_answer_loss_over_spliced_vectors():
    model = adapted()
    vectors = torch.cat(MemoryEncoder(model.model, pad_id=1, adapter="encoder_adapter").encode(rows()).memories)
    assert abs(answer_loss(model, vectors).item() - 5.522276) < 1e-4


def answer_loss(model, vectors):
    """Two rows of different length, two documents each; token mean over the batch."""
    slots = [*MEMORY, SEPARATOR] * 2
    prompts = [([1, 80, *slots, 81, 82], [90, 91, 2]), ([1, 80, *slots, 83], [95, 2])]
    longest = max(len(prompt) + len(answer) for prompt, answer in prompts)
    ids = torch.ones(2, longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (prompt, answer) in enumerate(prompts):
        ids[row, longest - len(prompt) - len(answer) :] = torch.tensor(prompt + answer)
        mask[row, longest - len(prompt) - len(answer) :] = 1
        labels[row, longest - len(answer) :] = torch.tensor(answer)
    embeddings = splice(model.get_input_embeddings()(ids), torch.isin(ids, torch.tensor(MEMORY)), vectors)
    with torch.no_grad(), active_adapter("decoder_adapter"):
        logits = model(inputs_embeds=embeddings, attention_mask=mask).logits
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)

"""Where readers come from: folders, hub ids, GGUF files, and what is refused."""

import importlib.util
import json
import shutil

import pytest
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaModel

from ragcompress.errors import CheckpointError, MissingExtraError, OptionError
from ragcompress.evaluation.readers import HuggingFaceReader, as_reader
from ragcompress.evaluation.readers.loading import locate
from tests.unit.evaluation_models import LEARNT, byte_tokenizer, context, learnt_llama, random_model, tiny_llama

QUESTIONS = [context(question) for question in LEARNT]


def saved(model, folder):
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(learnt_llama(), tmp_path_factory.mktemp("models") / "learnt-llama")


def write_gguf(path, model):
    """Write a Llama as llama.cpp's converter does; its rotation takes neighbours together, so rows are permuted."""
    gguf = pytest.importorskip("gguf", reason="needs ragcompress[evaluation]")
    config, weights = model.config, model.state_dict()
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    tokens = sorted(byte_tokenizer().get_vocab().items(), key=lambda pair: pair[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in tokens])
    writer.add_token_types([3 if place < 3 else 1 for place in range(len(tokens))])
    writer.add_token_merges(["Ċ Ċ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in weights.items():
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        if heads:
            tensor = tensor.reshape(heads, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_folder_is_read_and_named_by_its_last_part(folder):
    reader = HuggingFaceReader.from_pretrained(folder, device="cpu", max_new_tokens=8)
    assert [reading.text for reading in reader.read(QUESTIONS)] == list(LEARNT.values())
    assert reader.name == "learnt-llama"
    assert reader.token_counter.name.startswith("learnt-llama")
    assert str(folder.parent) not in json.dumps(reader.settings())
    assert reader.settings()["device"] == "cpu"


def test_the_fingerprint_is_of_the_weights_and_not_of_the_place(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "copied")
    other = saved(tiny_llama(seed=3), tmp_path / "other")
    assert locate(folder).fingerprint == locate(copied).fingerprint != locate(other).fingerprint


def test_an_encoder_decoder_is_read_as_such(tmp_path):
    reader = HuggingFaceReader.from_pretrained(saved(random_model("t5"), tmp_path / "t5"), dtype="bfloat16")
    assert reader.window is None
    assert not reader.share_prefix
    assert reader.settings()["dtype"] == "bfloat16"
    assert len(reader.read(QUESTIONS)) == 2


def test_models_that_do_not_write_are_refused(tmp_path):
    sizes = {"vocab_size": 260, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    encoder = saved(BertForMaskedLM(BertConfig(num_hidden_layers=1, **sizes)), tmp_path / "bert")
    with pytest.raises(CheckpointError, match="holds BertForMaskedLM, which does not write"):
        HuggingFaceReader.from_pretrained(encoder)
    headless = saved(LlamaModel(LlamaConfig(num_hidden_layers=1, **sizes)), tmp_path / "headless")
    with pytest.raises(CheckpointError, match=r"lack lm_head.weight"):
        HuggingFaceReader.from_pretrained(headless)


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        HuggingFaceReader.from_pretrained(tmp_path / "nowhere")
    for pattern, what in (
        ("config.json", "configuration"),
        ("*.safetensors", "weights"),
        ("tokenizer.json", "tokenizer"),
    ):
        part = shutil.copytree(folder, tmp_path / what)
        for path in part.glob(pattern):
            path.unlink()
        with pytest.raises(CheckpointError, match=f"has no .*{what}"):
            HuggingFaceReader.from_pretrained(part)


def test_options_are_checked_before_anything_is_looked_for():
    for options in ({"dtype": "int8"}, {"device": "tpu"}, {"batch_tokens": 0}, {"max_new_tokens": 1.5}):
        with pytest.raises(OptionError, match=next(iter(options))):
            HuggingFaceReader.from_pretrained("owner/there-is-no-such-model", **options)


def test_a_hub_id_that_cannot_be_had_says_so():
    with pytest.raises(CheckpointError, match=r"owner/there-is-no-such-model.*could not be downloaded"):
        as_reader("hf:owner/there-is-no-such-model")


@pytest.fixture(scope="module")
def gguf_folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("gguf")
    write_gguf(found / "learnt.gguf", learnt_llama())
    return found


@pytest.mark.parametrize("whole_folder", [True, False])
def test_a_gguf_file_answers_as_the_model_it_was_written_from(gguf_folder, whole_folder):
    reader = as_reader(gguf_folder if whole_folder else f"hf:{gguf_folder / 'learnt.gguf'}")
    assert [reading.text for reading in reader.read(QUESTIONS)] == list(LEARNT.values())
    assert reader.name == "learnt"
    model = learnt_llama()
    assert reader.n_parameters == model.model.num_parameters() - model.get_input_embeddings().weight.numel()


def test_unpacking_draws_no_bar_in_a_log(gguf_folder, capfd):
    as_reader(gguf_folder)
    assert "it/s" not in capfd.readouterr().err


def test_gguf_files_are_chosen_by_name(tmp_path):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match=r"holds 2 GGUF files: a.gguf, b.gguf. Name one"):
        locate(tmp_path)
    assert locate(tmp_path / "b.gguf").gguf_file == locate(tmp_path, gguf_file="b.gguf").gguf_file == "b.gguf"
    with pytest.raises(CheckpointError, match=r"c.gguf does not exist. GGUF files in .*: a.gguf, b.gguf."):
        locate(tmp_path / "c.gguf")
    (tmp_path / "none").mkdir()
    with pytest.raises(CheckpointError, match=r"c.gguf does not exist. GGUF files in .*: none."):
        locate(tmp_path / "none" / "c.gguf")
    with pytest.raises(CheckpointError, match=r"a.gguf cannot be read"):
        HuggingFaceReader.from_pretrained(tmp_path / "a.gguf")


def test_a_gguf_file_without_its_package_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"needs the package gguf. pip install 'ragcompress\[evaluation\]'"):
        HuggingFaceReader.from_pretrained(tmp_path)

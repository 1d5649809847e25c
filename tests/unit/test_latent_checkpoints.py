"""Checkpoints of the latent backends: every layout there and back, and what is wrong with bad ones."""

import json
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import ragcompress as rc
from ragcompress.latent.building import kept_layers, trimmed_config
from ragcompress.latent.checkpoint import load_latent, save_latent
from ragcompress.latent.loading import load_config
from ragcompress.latent.options import LoadOptions
from ragcompress.testing import tiny
from tests.parity.latent import GOLDENS, TOLERANCE, model, tensors, texts

DOCUMENTS = ["The Great Barrier Reef is the world's largest coral reef system.", "Marie Curie was a physicist."]


@pytest.fixture
def copied(tmp_path):
    """A golden checkpoint with its bases beside it, free to be damaged."""

    def copy(name):
        for base in ("tiny-mistral", "tiny-llama-encoder", "tiny-qwen2-encoder"):
            if not (tmp_path / base).exists():
                shutil.copytree(GOLDENS / base, tmp_path / base)
        target = tmp_path / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(GOLDENS / name, target)
        return target

    return copy


def load(folder, **options):
    return load_latent(folder, LoadOptions(device="cpu", **options))


def change(folder, **settings):
    path = folder / "config.json"
    found = json.loads(path.read_text())
    for name, value in settings.items():
        found.pop(name, None) if value is ... else found.update({name: value})
    path.write_text(json.dumps(found))


def memories(loaded, query=None):
    form = loaded.documents if query is None else loaded.pairs
    rows = form.rows(loaded.encoder_text, DOCUMENTS, None if query is None else [query] * len(DOCUMENTS))
    return torch.cat(loaded.encoder.encode(rows).memories)


NAMES = ("pisco-v1-tiny", "oscar-v1-tiny", "pisco-v2-tiny")


@pytest.mark.parametrize("layout", ["ragcompress", "published"])
@pytest.mark.parametrize("name", NAMES)
def test_p9_saved_and_loaded_it_is_the_same(tmp_path, name, layout):
    query = "Who?" if name == "oscar-v1-tiny" else None
    before = memories(model(name), query)
    save_latent(model(name), tmp_path / "saved", layout=layout)
    loaded = load(tmp_path / "saved", base=GOLDENS / "tiny-mistral", compressor_base=GOLDENS / "tiny-llama-encoder")
    assert torch.equal(memories(loaded, query), before)
    ids = torch.arange(40)[None]
    with torch.no_grad():
        mask = torch.ones_like(ids)
        logits = [m.decoder.forward(m.decoder.embed(ids), mask).logits for m in (loaded, model(name))]
    assert torch.equal(*logits)
    # The same weights are the same space, whichever way they are written down; memories stay good.
    assert (loaded.space == model(name).space) == (layout == "ragcompress")


@pytest.mark.parametrize(("name", "files"), [
    ("pisco-v1-tiny", ["adapters.pth", "decoder_first_last_layers.pth"]),
    ("oscar-v1-tiny", ["adapters.pth", "decoder_first_last_layers.pth", "compressor/compressor.pth", "compressor/mlp.pth"]),
    ("pisco-v2-tiny", ["decoder_state.pt", "connector.pt"]),
])  # fmt: skip
def test_p9_published_files_have_the_published_keys(tmp_path, name, files):
    save_latent(model(name), tmp_path / "saved", layout="published")
    for file in files:
        ours, theirs = (torch.load(folder / file, weights_only=True) for folder in (tmp_path / "saved", GOLDENS / name))
        assert flat(ours).keys() == flat(theirs).keys()
        for key, tensor in flat(theirs).items():
            assert (tensor.shape, tensor.dtype) == (flat(ours)[key].shape, flat(ours)[key].dtype)
            if "original_module" not in key:
                assert torch.equal(tensor, flat(ours)[key]), key
    written = {
        path.relative_to(tmp_path / "saved").as_posix() for path in (tmp_path / "saved").rglob("*") if path.is_file()
    }
    published = {path.relative_to(GOLDENS / name).as_posix() for path in (GOLDENS / name).rglob("*") if path.is_file()}
    if name != "pisco-v2-tiny":
        assert written == {path for path in published if not path.startswith("golden")}
    assert "auto_map" not in json.loads((tmp_path / "saved/config.json").read_text())


def flat(table, prefix=""):
    found = {}
    for key, value in table.items():
        found |= flat(value, f"{prefix}{key}/") if isinstance(value, dict) else {prefix + key: value}
    return found


def test_our_layout_holds_no_pickle_and_needs_no_other_tokenizer(tmp_path):
    save_latent(model("oscar-v1-tiny"), tmp_path / "saved", include_base=True)
    suffixes = {path.suffix for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".safetensors", ".jinja"}
    shutil.move(tmp_path / "saved", tmp_path / "elsewhere")  # nothing beside it
    loaded = load(tmp_path / "elsewhere")
    assert torch.equal(memories(loaded, "Who?"), memories(model("oscar-v1-tiny"), "Who?"))


def test_saving_is_all_or_nothing(tmp_path, monkeypatch):
    from ragcompress.latent import _own_layout

    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").write_text("x")
    with pytest.raises(rc.CheckpointError, match="not empty; nothing was written"):
        save_latent(model("pisco-v1-tiny"), tmp_path / "taken")
    monkeypatch.setattr(_own_layout, "embedding_table", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_latent(model("pisco-v1-tiny"), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_what_the_published_layouts_cannot_hold_is_refused(tmp_path):
    from ragcompress.latent.tiny import tiny_oscar

    with pytest.raises(rc.OptionError, match="a reranking head is not written"):
        save_latent(tiny_oscar(), tmp_path / "saved", layout="published")
    with pytest.raises(rc.OptionError, match="layout"):
        save_latent(tiny_oscar(), tmp_path / "saved", layout="pickle")
    assert not (tmp_path / "saved").exists()


def test_equal_calls_share_one_model_while_it_is_in_use(copied):
    folder = copied("pisco-v1-tiny")
    first = load(folder)
    assert load(folder) is first
    assert load(folder, dtype="bfloat16") is not first
    change(folder, sep=True, note="changed")
    assert load(folder) is not first


def test_a_hub_id_with_its_revision_and_sub_folder(copied, monkeypatch):
    """The hub's own client is replaced by one that gives a local folder."""
    import huggingface_hub

    folder = copied("pisco-v1-tiny")
    asked = []

    def snapshot_download(repository, revision=None, allow_patterns=None, local_files_only=False):
        asked.append((repository, revision))
        return str(folder.parent)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    loaded = load_latent(
        "owner/name/pisco-v1-tiny", LoadOptions(device="cpu", base=GOLDENS / "tiny-mistral"), revision="abc"
    )
    assert asked[0] == ("owner/name", "abc")
    assert torch.equal(memories(loaded), memories(model("pisco-v1-tiny")))


def test_options_saved_beside_a_checkpoint_come_from_the_hub_too(copied, tmp_path, monkeypatch):
    import huggingface_hub

    tiny("pisco").with_options(titles="ignore", on_long="truncate").save_pretrained(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path / "hub"))
    loaded = rc.load("pisco", "owner/name", device="cpu")
    assert (loaded.config.titles, loaded.config.on_long) == ("ignore", "truncate")


@pytest.mark.parametrize("cached", [["config.json"], ["config.json", "adapters.pth"], []])
def test_a_half_cached_download_is_completed(tmp_path, monkeypatch, cached):
    import huggingface_hub

    asked = []

    def snapshot_download(repository, revision=None, allow_patterns=None, local_files_only=False):
        asked.append((repository, local_files_only))
        name = "tiny-mistral" if repository.endswith("base") else "pisco-v1-tiny"
        half = tmp_path / name
        half.mkdir(exist_ok=True)
        source = GOLDENS / name
        files = [path.name for path in source.iterdir()] if not local_files_only else cached
        for file in files:
            if (source / file).is_file():
                shutil.copy(source / file, half / file)
        if local_files_only and not cached:
            raise huggingface_hub.errors.LocalEntryNotFoundError("nothing")
        return str(half)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    loaded = load_latent("owner/name", LoadOptions(device="cpu", base="owner/base"))
    assert torch.equal(memories(loaded), memories(model("pisco-v1-tiny")))
    assert ("owner/name", False) in asked
    assert ("owner/base", False) in asked


def test_the_same_in_other_words_is_the_same_model(copied):
    folder = copied("pisco-v1-tiny")
    base = folder.parent / "tiny-mistral"
    first = load(folder, base=base)
    assert load_latent(str(folder), LoadOptions(device=None, base=str(base))) is first
    (folder / "extra").mkdir()
    (folder / "extra/file").write_text("x")  # whatever changes in the folder may change the model
    assert load(folder, base=base) is not first


def test_the_space_follows_the_weights_and_not_what_a_file_says(tmp_path):
    save_latent(model("pisco-v1-tiny"), tmp_path / "saved")
    assert load(tmp_path / "saved", base=GOLDENS / "tiny-mistral").space == model("pisco-v1-tiny").space
    shutil.copytree(GOLDENS / "tiny-mistral", tmp_path / "other")
    state = load_file(tmp_path / "other/model.safetensors")
    key = "model.layers.0.mlp.down_proj.weight"
    save_file(state | {key: state[key] * 3}, tmp_path / "other/model.safetensors", metadata={"format": "pt"})
    assert load(tmp_path / "saved", base=tmp_path / "other").space != model("pisco-v1-tiny").space
    adapters = load_file(tmp_path / "saved/adapters.safetensors")
    save_file({name: tensor * 2 for name, tensor in adapters.items()}, tmp_path / "saved/adapters.safetensors")
    assert load(tmp_path / "saved", base=GOLDENS / "tiny-mistral").space != model("pisco-v1-tiny").space


def test_a_base_inside_of_a_checkpoint_stays_with_it(tmp_path):
    save_latent(model("pisco-v1-tiny"), tmp_path / "first", include_base=True)
    save_latent(load(tmp_path / "first"), tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    assert torch.equal(memories(load(tmp_path / "second")), memories(model("pisco-v1-tiny")))


def test_a_head_trained_apart_on_a_tied_base_is_kept(copied):
    """The format of 2026 stores trained copies of both matrices, whatever the base model ties."""
    folder = copied("pisco-v2-tiny")
    config = folder.parent / "tiny-mistral/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tie_word_embeddings": True}))
    state = load_file(config.parent / "model.safetensors")
    state.pop("lm_head.weight")
    save_file(state, config.parent / "model.safetensors", metadata={"format": "pt"})
    decoder = load(folder).decoder.model
    head = torch.load(folder / "decoder_state.pt", weights_only=True)["lm_head.modules_to_save.default.weight"]
    assert torch.equal(decoder.get_output_embeddings().weight, head)
    assert not torch.equal(decoder.get_input_embeddings().weight, head)


def test_quantization_and_device_maps_that_cannot_be(tmp_path):
    cocom(tmp_path / "cocom")
    with pytest.raises(rc.OptionError, match="hold the whole decoder"):
        load(tmp_path / "cocom", base=GOLDENS / "tiny-mistral", device_map="auto")


def test_loaded_and_built_models_can_be_pickled():
    import pickle

    compressor = pickle.loads(pickle.dumps(tiny("pisco")))
    assert torch.equal(memories(compressor.model), memories(tiny("pisco").model))


def test_layers_with_adapters_say_so_when_training_runs_them_without_a_choice():
    decoder = tiny("pisco").model.decoder.model
    decoder.train()
    with pytest.raises(RuntimeError, match="outside of active_adapter"):
        decoder(torch.tensor([[1, 2, 3]]))


# --- bad checkpoints ---


def damaged(copied, name, spoil, match, **options):
    folder = copied(name)
    spoil(folder)
    with pytest.raises(rc.CheckpointError, match=match) as raised:
        load(folder, **options)
    assert str(folder.parent) in str(raised.value)


@pytest.mark.parametrize(("name", "file"), [
    ("pisco-v1-tiny", "adapters.pth"), ("pisco-v1-tiny", "decoder_first_last_layers.pth"),
    ("oscar-v1-tiny", "compressor/compressor.pth"), ("oscar-v1-tiny", "compressor/mlp.pth"),
    ("pisco-v2-tiny", "decoder_state.pt"), ("pisco-v2-tiny", "connector.pt"),
    ("pisco-v2-tiny", "compressor/model.safetensors"),
])  # fmt: skip
def test_files_that_are_missing_or_cut_off(copied, name, file):
    damaged(copied, name, lambda folder: (folder / file).unlink(), f"{file} is missing")
    folder = GOLDENS / name
    size = (folder / file).stat().st_size

    def cut(target):
        (target / file).write_bytes((folder / file).read_bytes()[: size // 2])

    damaged(copied, name, cut, "cannot be read as tensors.*Is the download complete")


def rewrite(file, edit):
    def spoil(folder):
        table = torch.load(folder / file, weights_only=True)
        table = edit(table) or table
        torch.save(table, folder / file)

    return spoil


@pytest.mark.parametrize(("file", "edit", "match"), [
    ("adapters.pth", lambda t: t.pop("encoder_adapter") and {"decoder_adapter": {}}, "no LoRA matrices"),
    ("adapters.pth", lambda t: t.pop("decoder_adapter") and None, "has no decoder_adapter"),
    ("adapters.pth", lambda t: t.update(query_reasoner_adapter=t["encoder_adapter"]), r"unknown adapters query_reasoner.*rc.load\('clara'"),
    ("adapters.pth", lambda t: t.update(other=t["encoder_adapter"]), "unknown adapters other; expected decoder_adapter and encoder"),
    ("adapters.pth", lambda t: {n: {k: v.repeat(2, 1) if "lora_A" in k else v.repeat(1, 2) for k, v in a.items()} for n, a in t.items()}, "rank 8, but config.json says 4"),
    ("adapters.pth", lambda t: t["encoder_adapter"].pop("model.layers.1.mlp.up_proj.lora_B.weight") is None, "lacks encoder_adapter/model.layers.1.mlp.up_proj.lora_B"),
    ("adapters.pth", lambda t: t["encoder_adapter"].update({"model.layers.9.x.lora_B.weight": torch.zeros(2, 4)}), "unknown encoder_adapter/model.layers.9"),
    ("adapters.pth", lambda t: t["encoder_adapter"].update({"model.embed_tokens.weight": torch.zeros(523, 64)}), "brings another model.embed_tokens.weight"),
    ("adapters.pth", lambda t: [1, 2], "holds list; expected adapters by name"),
    ("decoder_first_last_layers.pth", lambda t: {k: v[:-1] for k, v in t.items()}, "522 rows, but the tokenizer of .* has 512 tokens and 11 more are added"),
    ("decoder_first_last_layers.pth", lambda t: {k: torch.cat([v, v], dim=1) for k, v in t.items()}, r"shape \(523, 128\), expected \(523, 64\)"),
    ("decoder_first_last_layers.pth", lambda t: t.pop("lm_head.weight") is None, "holds no lm_head.weight"),
    ("decoder_first_last_layers.pth", lambda t: t.update(other=torch.zeros(1)), "expected model.embed_tokens.weight and lm_head.weight"),
])  # fmt: skip
def test_tables_that_do_not_fit(copied, file, edit, match):
    damaged(copied, "pisco-v1-tiny", rewrite(file, edit), match)


def test_embeddings_inside_of_adapters_are_tolerated_if_they_are_the_same(copied):
    folder = copied("pisco-v1-tiny")
    table = torch.load(folder / "decoder_first_last_layers.pth", weights_only=True)
    rewrite("adapters.pth", lambda t: [a.update(table) for a in t.values()] and None)(folder)
    assert torch.equal(memories(load(folder)), memories(model("pisco-v1-tiny")))


def test_a_file_that_would_run_code_is_refused(copied):
    class Evil:
        def __reduce__(self):
            return print, ("ran",)

    damaged(
        copied,
        "pisco-v1-tiny",
        lambda folder: torch.save({"a": Evil()}, folder / "adapters.pth"),
        "cannot be read as tensors",
    )


@pytest.mark.parametrize(("settings", "match"), [
    ({"decoder_model_name": ...}, "has no 'decoder_model_name'"),
    ({"doc_max_length": ...}, "has no 'doc_max_length'"),
    ({"compr_rate": ...}, "has no 'compr_rate'"),
    ({"compr_rate": 0}, "compr_rate = 0; expected a whole number of at least 1"),
    ({"compr_rate": -16}, "compr_rate = -16"),
    ({"compr_rate": "16"}, "compr_rate = '16'"),
    ({"compr_rate": 129}, "compr_rate = 129 above doc_max_length = 128"),
    ({"model_type": "bert"}, "model_type 'bert'; expected 'COCOM'"),
    ({"model_type": ...}, "model_type None"),
    ({"compr_bidirectional": True}, "refusing to guess"),
    ({"decoder_model_name": "elsewhere"}, "'elsewhere' is not beside .* pass your copy of it as base="),
    ({"decoder_model_name": "../../etc"}, "which is no hub id"),
    ({"decoder_model_name": "/etc"}, "which is no hub id"),
    ({"decoder_model_name": "~/models"}, "which is no hub id"),
    ({"sep": "false"}, "sep = 'false'; expected bool"),
    ({"lora_r": "4"}, "lora_r = '4'; expected int or null"),
    ({"compr_model_name": "mistral_trimmed", "compr_n_layers": "2"}, "compr_n_layers = '2'"),
    ({"doc_max_length": 30_000_000, "compr_rate": 1}, "asks for 30000000 memory tokens, but there are 523 embeddings"),
    ({"compr_rate": 8}, "523 rows, but the tokenizer"),
])  # fmt: skip
def test_settings_that_are_missing_or_absurd(copied, settings, match):
    folder = copied("pisco-v1-tiny")
    change(folder, **settings)
    with pytest.raises(rc.CheckpointError, match=match):
        load(folder)


def test_no_settings_at_all(copied):
    damaged(copied, "pisco-v1-tiny", lambda folder: (folder / "config.json").unlink(), "has no config.json")
    damaged(copied, "pisco-v1-tiny", lambda folder: (folder / "config.json").write_text("{"), "not readable as JSON")
    damaged(copied, "pisco-v1-tiny", lambda folder: (folder / "config.json").write_text("[]"), "expected an object")


def test_a_base_of_another_vocabulary_or_width(copied, tmp_path):
    folder = copied("pisco-v1-tiny")
    with pytest.raises(rc.CheckpointError, match="shape"):
        load(folder, base=GOLDENS / "tiny-llama-encoder")
    from ragcompress.latent.tiny import tiny_causal, tiny_chat_tokenizer

    tiny_causal(300, width=64, seed=0).save_pretrained(tmp_path / "other")
    tiny_chat_tokenizer().save_pretrained(tmp_path / "other")
    with pytest.raises(rc.CheckpointError, match=r"523 rows, but the tokenizer .* trained on 'tiny-mistral'"):
        load(folder, base=tmp_path / "other")


def test_a_base_that_is_absent_or_broken(copied, tmp_path):
    folder = copied("pisco-v1-tiny")
    with pytest.raises(rc.CheckpointError, match="does not exist"):
        load(folder, base=tmp_path / "nowhere")
    (folder.parent / "tiny-mistral/model.safetensors").write_bytes(b"short")
    with pytest.raises(rc.CheckpointError, match="tiny-mistral cannot be loaded"):
        load(folder)
    (folder.parent / "tiny-mistral/tokenizer.json").write_text("{}")
    with pytest.raises(rc.CheckpointError, match=r"tokenizer in .*tiny-mistral cannot be read"):
        load(folder)


def test_a_base_on_the_hub_without_a_network_says_what_to_pass(copied, monkeypatch):
    folder = copied("pisco-v1-tiny")
    change(folder, decoder_model_name="mistralai/Mistral-7B-Instruct-v0.2")
    with pytest.raises(
        rc.CheckpointError, match=r"trained on 'mistralai/Mistral-7B-Instruct-v0\.2': pass your copy of it as base="
    ):
        load(folder)


def test_options_of_loading(copied):
    for options, match in (
        ({"quantization": "int4"}, "needs a CUDA device"),
        ({"quantization": "int3"}, "quantization"),
        ({"dtype": "float8"}, "dtype"),
        ({"base": 3}, "base must be a path"),
    ):
        with pytest.raises(rc.OptionError, match=match):
            load(GOLDENS / "pisco-v1-tiny", **options)
    with pytest.raises(rc.CheckpointError, match="no default checkpoint"):
        rc.load("pisco")


def test_bfloat16_and_attention_implementations(copied):
    half = load(GOLDENS / "pisco-v1-tiny", dtype="bfloat16")
    assert half.decoder.dtype == torch.bfloat16
    found, expected = memories(half).float(), memories(model("pisco-v1-tiny"))
    cosine = torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0)
    assert cosine > 0.999
    eager = load(GOLDENS / "pisco-v1-tiny", attn_implementation="eager")
    assert (memories(eager) - expected).abs().max() < TOLERANCE


# --- COCOM, trimmed and LoRA compressors: no golden exists, so plain weights are the reference ---


def cocom(folder):
    """A COCOM checkpoint of known weights: one adapter, everything in one safetensors file."""
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(GOLDENS / "tiny-mistral")
    base.resize_token_embeddings(516, mean_resizing=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name of yesterday
        peft_model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, target_modules="all-linear"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in peft_model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    folder.mkdir()
    state = {f"decoder.{name}": tensor.contiguous() for name, tensor in peft_model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    settings = {
        "model_type": "COCOM", "decoder_model_name": "tiny-mistral", "compr_model_name": None, "compr_rate": 16, "sep": True,
        "lora": True, "lora_r": 4, "training_form": "both", "quantization": "no",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings))
    return peft_model.eval()


def test_cocom(tmp_path):
    reference = cocom(tmp_path / "cocom")
    compressor = rc.load(
        "pisco",
        tmp_path / "cocom",
        base=GOLDENS / "tiny-mistral",
        device="cpu",
        short_documents="memory",
        titles="ignore",
    )
    text = compressor.model.decoder.text
    assert [text.id_of(token) for token in ("<MEM>", "<AE>", "<ENC>", "<SEP>")] == [512, 513, 514, 515]
    document = texts("pisco-v1-tiny")["documents"][0]
    inner = text.tokenizer(document, add_special_tokens=False).input_ids
    bos, eos = text.id_of("<s>"), text.id_of("</s>")
    for side, closing in (("right", eos), ("left", bos)):
        plain = [bos, 514, bos, *inner, closing]
        n_slots = -(-(len(plain) - 3) // 16)
        ids = plain + [512] * n_slots if side == "right" else [512] * n_slots + plain
        with torch.no_grad():
            states = reference.base_model.model.model(torch.tensor([ids])).last_hidden_state[0]
        expected = states[-n_slots:] if side == "right" else states[:n_slots]
        found = compressor.with_options(memory_side=side).encode([rc.Document(document)])[0]
        assert (found.vectors - expected).abs().max() < TOLERANCE, side
    context = compressor.compress("Where?", [document])
    embeddings, _ = compressor.reader().inputs([context])
    question = text.tokenizer("[INST]Where?\n[/INST]\n", add_special_tokens=False).input_ids
    assert embeddings.shape[1] == 2 + context.n_slots + 1 + len(question)  # two BOS, one separator
    assert len(compressor.reader().answer([context], max_new_tokens=3)) == 1


def test_memory_on_the_left_is_for_cocom_alone():
    with pytest.raises(rc.OptionError, match="for COCOM's checkpoints alone"):
        rc.load("pisco", GOLDENS / "pisco-v1-tiny", device="cpu", memory_side="left")


def test_cocom_is_written_in_our_layout_if_its_base_is_the_named_one(tmp_path):
    cocom(tmp_path / "cocom")
    loaded = load(tmp_path / "cocom", base=GOLDENS / "tiny-mistral")
    save_latent(loaded, tmp_path / "saved")
    again = load(tmp_path / "saved", base=GOLDENS / "tiny-mistral")
    assert torch.equal(memories(again), memories(loaded))
    with pytest.raises(rc.OptionError, match="COCOM's layout"):
        save_latent(loaded, tmp_path / "published", layout="published")
    state = load_file(tmp_path / "cocom/model.safetensors")
    key = "decoder.base_model.model.model.layers.0.mlp.down_proj.base_layer.weight"
    save_file(state | {key: state[key] + 1}, tmp_path / "cocom/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(rc.CheckpointError, match="is not that of its base model"):
        save_latent(load(tmp_path / "cocom", base=GOLDENS / "tiny-mistral"), tmp_path / "other")


def test_a_checkpoint_of_the_other_kind_is_named(tmp_path, caplog):
    cocom(tmp_path / "cocom")
    with pytest.raises(rc.OptionError, match=r"oscar does not read cocom-v1 checkpoints.*rc.load\('pisco'"):
        rc.load("oscar", tmp_path / "cocom", base=GOLDENS / "tiny-mistral", device="cpu")
    rc.load("oscar", GOLDENS / "pisco-v1-tiny", device="cpu")
    assert "no compressor of its own" in caplog.text
    rc.load("pisco", GOLDENS / "oscar-v1-tiny", device="cpu")
    assert "expect the question" in caplog.text


def test_oscar_of_2026_reads_the_question_with_the_document():
    oscar = rc.load("oscar", GOLDENS / "pisco-v2-tiny", device="cpu")
    text = oscar.model.encoder_text
    (row,) = oscar.model.pairs.rows(text, ["Reefs."], ["Where?"])
    assert row.ids[: -sum(row.is_memory)] == text.tokenizer("Query: Where?\n Document: Reefs.").input_ids
    context = oscar.compress("Where?", DOCUMENTS)
    assert [segment.n_slots for segment in context.segments] == [5, 3]
    assert len(oscar.reader().answer([context], max_new_tokens=3)) == 1


def test_cocom_variants_that_are_not_read(tmp_path):
    cocom(tmp_path / "cocom")
    change(tmp_path / "cocom", compr_model_name="bert-base-uncased")
    with pytest.raises(rc.CheckpointError, match="COCOM-light"):
        load(tmp_path / "cocom", base=GOLDENS / "tiny-mistral")
    change(tmp_path / "cocom", compr_model_name=None, compr_rate=200)
    with pytest.raises(rc.CheckpointError, match="compr_rate = 200"):
        load(tmp_path / "cocom", base=GOLDENS / "tiny-mistral")


@pytest.mark.parametrize(("settings", "kept"), [
    ({"compr_n_layers": 2}, [0, 1]), ({"compr_every_n_layer": 2}, [0, 2]), ({"compr_n_layers": 2, "compr_rms_norm": True}, [0, 1]),
])  # fmt: skip
def test_p10_trimmed_compressors(copied, settings, kept):
    """First N or every N-th layer, renumbered; the final norm only where the settings keep it; no connector."""
    folder = copied("oscar-v1-tiny")
    base = AutoModelForCausalLM.from_pretrained(GOLDENS / "tiny-mistral")
    base.resize_token_embeddings(520, mean_resizing=False)
    state = {}
    for name, tensor in base.state_dict().items():
        head, _, rest = name.partition("model.layers.")
        if rest and not head:
            index, _, inner = rest.partition(".")
            if int(index) not in kept:
                continue
            name = f"model.layers.{kept.index(int(index))}.{inner}"
        if name != "model.norm.weight" or settings.get("compr_rms_norm"):
            state[f"custom_model.{name}"] = tensor.clone()
    torch.save(state, folder / "compressor/compressor.pth")
    (folder / "compressor/mlp.pth").unlink()
    change(
        folder,
        compr_model_name="mistral_trimmed",
        compr_base_model_name="tiny-mistral",
        compr_use_mlp=False,
        **settings,
    )
    loaded = load(folder)
    (row,) = loaded.pairs.rows(loaded.encoder_text, [DOCUMENTS[0]], ["Where?"])
    expected_text = f"\nQuery:\nWhere?Document:\n{DOCUMENTS[0]}"
    assert row.ids[:-8] == loaded.encoder_text.tokenizer(expected_text).input_ids
    with torch.no_grad():
        inner = base.model
        inner.layers = torch.nn.ModuleList([inner.layers[index] for index in kept])
        for index, layer in enumerate(inner.layers):
            layer.self_attn.layer_idx = index
        if not settings.get("compr_rms_norm"):
            inner.norm = torch.nn.Identity()
        inner.config.num_hidden_layers = len(kept)
        expected = inner(torch.tensor([row.ids]), use_cache=False).last_hidden_state[0, -8:]
    assert (loaded.encoder.encode([row]).memories[0] - expected).abs().max() < TOLERANCE
    save_latent(loaded, folder.parent / "saved")
    again = load(folder.parent / "saved", base=GOLDENS / "tiny-mistral")
    assert torch.equal(again.encoder.encode([row]).memories[0], loaded.encoder.encode([row]).memories[0])
    with pytest.raises(rc.OptionError, match="trimmed and LoRA compressors"):
        save_latent(loaded, folder.parent / "published", layout="published")


def test_p10_which_layers_are_kept():
    assert kept_layers(32, {"compr_n_layers": 5}) == [0, 1, 2, 3, 4]
    assert kept_layers(32, {"compr_every_n_layer": 10}) == [0, 10, 20, 30]
    for settings in (
        {},
        {"compr_n_layers": 2, "compr_every_n_layer": 2},
        {"compr_n_layers": 0},
        {"compr_every_n_layer": 33},
    ):
        with pytest.raises(rc.OptionError, match="compr_"):
            kept_layers(32, settings)
    config = load_config(GOLDENS / "tiny-qwen2-encoder")
    config.layer_types = ["full_attention", "sliding_attention", "full_attention", "full_attention"]
    trimmed = trimmed_config(config, {"compr_every_n_layer": 3})
    assert (trimmed.num_hidden_layers, trimmed.layer_types) == (2, ["full_attention", "full_attention"])
    assert config.num_hidden_layers == 4


def test_p10_a_compressor_with_adapters_of_its_own(copied):
    """Its base's weights, a trained embedding matrix, and LoRA matrices."""
    folder = copied("oscar-v1-tiny")
    from transformers import AutoModel

    base = AutoModel.from_pretrained(GOLDENS / "tiny-llama-encoder")
    base.resize_token_embeddings(520, mean_resizing=False)
    generator = torch.Generator().manual_seed(0)
    lora, merged = {}, dict(base.named_modules())
    torch.save(
        {"embed_tokens.weight": base.embed_tokens.weight.detach().clone()}, folder / "compressor/first_layer.pth"
    )
    with torch.no_grad():
        for name, module in merged.items():
            if isinstance(module, torch.nn.Linear):
                a = torch.randn(4, module.in_features, generator=generator) * 0.1
                b = torch.randn(module.out_features, 4, generator=generator) * 0.1
                lora |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
                module.weight += 2 * b @ a
    torch.save(lora, folder / "compressor/compressor_adapters.pth")
    (folder / "compressor/compressor.pth").unlink()
    change(folder, lora_compressor=True)
    loaded = load(folder)
    (row,) = loaded.pairs.rows(loaded.encoder_text, [DOCUMENTS[0]], ["Where?"])
    with torch.no_grad():
        states = base(torch.tensor([row.ids]), use_cache=False).last_hidden_state[0, -8:]
        expected = loaded.encoder.connector(states)
    assert (loaded.encoder.encode([row]).memories[0] - expected).abs().max() < TOLERANCE
    save_latent(loaded, folder.parent / "saved")
    again = load(folder.parent / "saved", base=GOLDENS / "tiny-mistral")
    assert (again.encoder.encode([row]).memories[0] - expected).abs().max() < TOLERANCE


def test_a_padded_vocabulary_shrinks_as_published(tmp_path):
    """Qwen2's matrices have more rows than its tokenizer has tokens; the checkpoint's have exactly one a token."""
    from ragcompress.latent.tiny import tiny_causal, tiny_chat_tokenizer

    tokenizer = tiny_chat_tokenizer()
    n_tokens = len(tokenizer)
    base = tiny_causal(n_tokens + 64, width=32, seed=0)
    base.save_pretrained(tmp_path / "padded")
    tokenizer.save_pretrained(tmp_path / "padded")
    save_latent(tiny("pisco").model, tmp_path / "saved", layout="published")
    loaded = load(tmp_path / "saved", base=tmp_path / "padded")
    assert loaded.decoder.model.get_input_embeddings().weight.shape[0] == n_tokens + 11


def test_tied_embeddings_give_one_key_and_stay_tied(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    from ragcompress.latent.adapters import adapter_parameters
    from ragcompress.latent.tiny import tiny_chat_tokenizer

    tokenizer = tiny_chat_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "tied")
    tokenizer.save_pretrained(tmp_path / "tied")
    donor = tiny("pisco").model
    folder = tmp_path / "pisco"
    folder.mkdir()
    rows = donor.decoder.model.get_input_embeddings().weight.detach().clone()
    torch.save({"model.embed_tokens.weight": rows}, folder / "decoder_first_last_layers.pth")
    adapters = {n: dict(adapter_parameters(donor.decoder.model, n)) for n in ("decoder_adapter", "encoder_adapter")}
    torch.save({n: {k: v.detach() for k, v in a.items()} for n, a in adapters.items()}, folder / "adapters.pth")
    (folder / "config.json").write_text(json.dumps(dict(donor.settings)))
    loaded = load(folder, base=tmp_path / "tied")
    decoder = loaded.decoder.model
    assert decoder.get_output_embeddings().weight.data_ptr() == decoder.get_input_embeddings().weight.data_ptr()
    assert torch.equal(decoder.get_input_embeddings().weight, rows)
    save_latent(loaded, tmp_path / "saved", layout="published")
    assert list(torch.load(tmp_path / "saved/decoder_first_last_layers.pth", weights_only=True)) == [
        "model.embed_tokens.weight"
    ]


def test_the_reference_generation_settings_are_set_aside():
    loaded = model("pisco-v1-tiny")
    assert loaded.decoder.model.generation_config.do_sample is None
    assert tensors("pisco-v1-tiny")["memory"].shape == (6, 8, 64)

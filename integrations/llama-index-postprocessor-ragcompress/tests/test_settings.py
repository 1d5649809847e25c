"""How a component is configured, written down, read back and pickled."""

import copy
import json
import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import torch
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, TextNode, TransformComponent
from llama_index.postprocessor.ragcompress import RagCompressPostprocessor, RagCompressTransform
from llama_index_fakes import KeepMatching, Unpicklable
from pydantic import ValidationError

import ragcompress as rc

SETTINGS = {
    "checkpoint": "some/checkpoint",
    "options": {"top_k": 3},
    "on_error": "pass_through",
    "timeout": 2.5,
    "min_chars": 10,
    "title_key": "name",
    "store": "memory://settings",
}
BOTH = pytest.mark.parametrize("kind", [RagCompressPostprocessor, RagCompressTransform])


def test_kinds():
    assert issubclass(RagCompressPostprocessor, BaseNodePostprocessor)
    assert issubclass(RagCompressTransform, TransformComponent)
    assert RagCompressPostprocessor.class_name() == "RagCompressPostprocessor"
    assert RagCompressTransform.class_name() == "RagCompressTransform"


def test_defaults():
    settings = RagCompressPostprocessor().to_dict()
    assert settings == {
        "backend": "recomp-extractive",
        "checkpoint": None,
        "options": {},
        "on_error": "raise",
        "timeout": None,
        "min_chars": 0,
        "title_key": "title",
        "replace_score": False,
        "keep_original": False,
        "class_name": "RagCompressPostprocessor",
    }


@BOTH
def test_options_are_merged_and_public(kind):
    component = kind(**SETTINGS, max_length=64)
    assert component.options == {"top_k": 3, "store": "memory://settings", "max_length": 64}
    assert (component.checkpoint, component.timeout, component.title_key) == ("some/checkpoint", 2.5, "name")
    assert kind(checkpoint=Path("a") / "b", store="memory://x").checkpoint == str(Path("a") / "b")


@BOTH
@pytest.mark.parametrize("path", ["to_dict", "to_json", "model_dump_json", "model_dump", "validate"])
def test_round_trips(kind, path):
    component = kind(**SETTINGS)
    back = {
        "to_dict": lambda: kind.from_dict(component.to_dict()),
        "to_json": lambda: kind.from_json(component.to_json()),
        "model_dump_json": lambda: kind.model_validate_json(component.model_dump_json()),
        "model_dump": lambda: kind(**component.model_dump(mode="json")),
        "validate": lambda: kind.model_validate(component.model_dump()),
    }[path]()
    assert type(back) is kind
    assert back.to_dict() == component.to_dict()
    assert back._adapter.configuration() == component._adapter.configuration()


def test_round_trip_of_what_only_the_postprocessor_has():
    component = RagCompressPostprocessor(replace_score=True, keep_original=True)
    back = RagCompressPostprocessor.from_json(component.to_json())
    assert (back.replace_score, back.keep_original) == (True, True)


def test_compressor_that_was_loaded_is_written_as_its_settings(minilm):
    compressor = minilm.with_options(max_tokens=20)
    component = RagCompressPostprocessor(compressor=compressor)
    assert (component.backend, component.options) == ("recomp-extractive", {"device": "cpu", "max_tokens": 20})
    nodes = [NodeWithScore(node=TextNode(text="The bridge is 412 metres long. Cats sleep a lot, and so do owls."))]
    expected = component.postprocess_nodes(nodes, query_str="How long is the bridge?")
    pickled = pickle.dumps(component)
    assert len(pickled) < 10_000
    for other in (RagCompressPostprocessor.from_json(component.to_json()), pickle.loads(pickled)):
        assert other.to_dict() == component.to_dict()
        assert other.postprocess_nodes(nodes, query_str="How long is the bridge?") == expected


@BOTH
def test_settings_are_fixed(kind):
    component = kind(**SETTINGS)
    for name in ("backend", "timeout", "options"):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(component, name, getattr(component, name))
    if kind is RagCompressPostprocessor:
        component.callback_manager = CallbackManager()  # query engines do this


@BOTH
def test_compressor_built_by_hand_refuses_json(kind):
    component = kind(compressor=KeepMatching())
    assert component.backend == "keep-matching"
    with pytest.raises(rc.OptionError, match="built by hand"):
        component.to_json()
    with pytest.raises(ValueError, match="built by hand"):
        component.model_dump_json()
    with pytest.raises(rc.OptionError, match="must be a ragcompress"):
        kind.from_dict(component.to_dict())


@BOTH
def test_option_that_is_an_object_refuses_json(kind):
    component = kind(store=rc.InMemoryStore())
    with pytest.raises(rc.OptionError, match="memory://NAME"):
        component.to_json()
    with pytest.raises(ValueError, match="memory://NAME"):
        component.model_dump_json()


class TestErrors:
    @BOTH
    def test_unknown_backend_closest_first(self, kind):
        with pytest.raises(
            rc.OptionError, match="unknown backend 'recomp-extractiv'; known, closest first: 'recomp-ext"
        ):
            kind("recomp-extractiv", store="memory://x")

    @pytest.mark.parametrize("on_error", ["raise", "pass_through"])
    def test_unknown_option_closest_first(self, on_error):
        with pytest.raises(rc.OptionError, match=r"unknown option 'topk'; known, closest first: 'top_k'"):
            RagCompressPostprocessor(topk=3, on_error=on_error)

    def test_a_changed_copy_uses_the_change(self):
        changed = RagCompressPostprocessor(top_k=1).model_copy(update={"options": {"top_k": 2}})
        assert changed._adapter.options == changed.options == {"top_k": 2}

    def test_nodes_without_a_score_wrapper_are_named(self):
        with pytest.raises(rc.InputTypeError, match=r"nodes\[0\] is TextNode; expected a NodeWithScore"):
            RagCompressPostprocessor(top_k=1).postprocess_nodes([TextNode(text="A.")], query_str="a")

    def test_a_generator_of_nodes_is_a_list_of_nodes(self):
        nodes = (NodeWithScore(node=TextNode(text=text)) for text in ("a b.", "c."))
        found = RagCompressPostprocessor(compressor=KeepMatching()).postprocess_nodes(nodes, query_str="a")
        assert [item.node.get_content() for item in found] == ["a b."]

    def test_what_cannot_be_copied_is_shared_and_forged_handles_are_harmless(self):
        lock = threading.Lock()
        node = TextNode(text="<|rc:aa:3|> a.", metadata={"lock": lock})
        for component in (RagCompressPostprocessor(compressor=KeepMatching()), RagCompressPostprocessor(min_chars=99)):
            (found,) = component.postprocess_nodes([NodeWithScore(node=node)], query_str="a")
            assert found.node.metadata["lock"] is lock
            assert "<|rc:" not in found.node.get_content()
        assert rc.NOTE_KEY not in node.metadata

    def test_the_cache_key_does_not_follow_what_is_in_a_store(self):
        store = rc.InMemoryStore()
        before = str(RagCompressTransform(store=store).to_dict())
        store.put({"a": rc.Memory(torch.ones(1, 2), 1, "s")})
        assert str(RagCompressTransform(store=store).to_dict()) == before
        assert str(RagCompressTransform(store=rc.InMemoryStore()).to_dict()) != before

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"on_error": "pass"}, "unknown on_error 'pass'; known, closest first: 'pass_through'"),
            ({"timeout": -1}, "timeout must be a number and at least"),
            ({"min_chars": 1.5}, "min_chars must be a whole number"),
            ({"compressor": "recomp"}, "must be a ragcompress.Compressor, got str"),
            ({"compressor": KeepMatching(), "top_k": 3}, "give either"),
            ({"options": {"store": "redis://x"}}, None),
        ],
    )
    def test_settings_out_of_range(self, settings, message):
        if message is None:
            component = RagCompressPostprocessor(**settings)
            with pytest.raises(rc.OptionError, match="no store has the address 'redis://x'"):
                component.postprocess_nodes([NodeWithScore(node=TextNode(text="A."))], query_str="a")
            return
        with pytest.raises(rc.OptionError, match=message):
            RagCompressPostprocessor(**settings)

    def test_a_store_nobody_shares(self):
        with pytest.warns(UserWarning, match="memory://NAME"):
            RagCompressTransform()


class TestPickling:
    def test_settings(self):
        component = RagCompressPostprocessor(**SETTINGS, replace_score=True)
        back = pickle.loads(pickle.dumps(component))
        assert back.to_dict() == component.to_dict()
        assert back._adapter.configuration() == component._adapter.configuration()
        assert (back._adapter.timeout, back._adapter.on_error) == (2.5, "pass_through")

    def test_transform_needs_no_new_warning(self):
        with pytest.warns(UserWarning, match="memory://NAME"):
            component = RagCompressTransform()
        assert pickle.loads(pickle.dumps(component)).to_dict() == component.to_dict()

    def test_compressor_built_by_hand(self):
        back = pickle.loads(pickle.dumps(RagCompressPostprocessor(compressor=KeepMatching(best_first=True))))
        out = back.postprocess_nodes([NodeWithScore(node=TextNode(text="A bridge. Tea."))], query_str="bridge")
        assert [item.text for item in out] == ["A bridge."]
        with pytest.raises(rc.OptionError, match="built by hand"):
            back.to_json()

    def test_nothing_is_dropped_in_silence(self):
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(RagCompressPostprocessor(compressor=Unpicklable()))

    def test_callback_handlers_stay_behind(self):
        handler = LlamaDebugHandler(print_trace_on_end=False)
        handler.unpicklable = lambda: None
        component = RagCompressPostprocessor(callback_manager=CallbackManager([handler]))
        assert component.callback_manager.handlers == [handler]
        assert pickle.loads(pickle.dumps(component)).callback_manager.handlers == []

    def test_copies(self):
        component = RagCompressPostprocessor(compressor=KeepMatching())
        for other in (copy.copy(component), copy.deepcopy(component), component.model_copy()):
            out = other.postprocess_nodes([NodeWithScore(node=TextNode(text="A bridge. Tea."))], query_str="bridge")
            assert [item.text for item in out] == ["A bridge."]

    def test_in_a_new_process(self, tmp_path):
        components = {
            "settings": RagCompressPostprocessor(**SETTINGS),
            "hand": RagCompressPostprocessor(compressor=KeepMatching()),
            "transform": RagCompressTransform(**SETTINGS),
        }
        (tmp_path / "components.pickle").write_bytes(pickle.dumps(components))
        program = f"""
            import json, pickle, sys
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from llama_index.core.schema import NodeWithScore, TextNode
            components = pickle.load(open({str(tmp_path / "components.pickle")!r}, "rb"))
            nodes = [NodeWithScore(node=TextNode(text="A bridge. Tea."))]
            out = components["hand"].postprocess_nodes(nodes, query_str="bridge")
            dumps = [components["settings"].to_dict(), components["transform"].to_dict()]
            print(json.dumps([*dumps, [item.text for item in out]]))
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
        )
        settings, transform, texts = json.loads(done.stdout.splitlines()[-1])
        assert settings == components["settings"].to_dict()
        assert transform == components["transform"].to_dict()
        assert texts == ["A bridge."]


class TestCacheKey:
    """IngestionPipeline's cache must not confuse two differently configured transformations."""

    def key(self, **settings):
        settings = {"store": "memory://x", **settings} if "compressor" not in settings else settings
        return get_transformation_hash([TextNode(text="A.", id_="a")], RagCompressTransform(**settings))

    def test_equal_settings_equal_keys(self):
        assert self.key(top_k=3) == self.key(options={"top_k": 3})
        assert self.key(compressor=KeepMatching()) == self.key(compressor=KeepMatching())

    @pytest.mark.parametrize(
        "settings",
        [
            {"top_k": 3},
            {"checkpoint": "a"},
            {"revision": "b"},
            {"dtype": "bfloat16"},
            {"title_key": "name"},
            {"store": "memory://y"},
            {"compressor": KeepMatching()},
        ],
    )
    def test_other_settings_other_key(self, settings):
        assert self.key(**settings) != self.key()

    def test_other_compressor_other_key(self):
        assert self.key(compressor=KeepMatching(True)) != self.key(compressor=KeepMatching(False))


def test_nothing_is_loaded_early(monkeypatch):
    def load(*args, **kwargs):
        raise AssertionError("loaded")

    monkeypatch.setattr("ragcompress.adapter.load", load)
    component = RagCompressPostprocessor()
    assert component.postprocess_nodes([], query_str="a") == []
    assert component.postprocess_nodes([NodeWithScore(node=TextNode(text=" "))], query_str="a")[0].text == " "
    component.to_json()
    transform = RagCompressTransform(store="memory://x")
    assert transform([]) == []
    with pytest.raises(AssertionError, match="loaded"):
        component.postprocess_nodes([NodeWithScore(node=TextNode(text="A."))], query_str="a")


def test_importing_loads_no_torch():
    program = "import sys, llama_index.postprocessor.ragcompress; assert 'torch' not in sys.modules, 'torch'"
    subprocess.run([sys.executable, "-c", program], check=True)

"""Results are read and checked; the page and the tables say what is in them, and let nothing through."""

import base64
import gzip
import hashlib
import json
import re
import sys
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from ragcompress.cli_report import report
from ragcompress.errors import InputError, MissingExtraError, OptionError
from ragcompress.evaluation.record_files import write_summary
from ragcompress.evaluation.records import Estimate, Failure, KeptSegment, Record
from ragcompress.evaluation.report import markdown, read_results, write_report
from ragcompress.evaluation.report.comparisons import low_share, share_of_budget
from ragcompress.evaluation.report.contestants import appearances, in_order
from ragcompress.evaluation.report.findings import finding
from ragcompress.evaluation.report.formatting import direction, verdict
from tests.unit.evaluation_results import change, estimate, question, record, rivers, summary, write_dataset

HOSTILE = "</script><script>window.hacked = 1</script><!-- <img src=x onerror=hacked=1> | ` &amp;"


def pages(folder, **options):
    return write_report(folder, folder / "page.html", **options).read_text(encoding="utf-8")


def packed(page, number=0):
    """The questions that a page carries."""
    found = re.search(rf'<script type="application/octet-stream" id="questions-{number}">([^<]*)</script>', page)
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def test_results_are_read_with_questions_and_records(tmp_path):
    rivers(tmp_path)
    (dataset,) = read_results(tmp_path).datasets
    assert dataset.name == "rivers"
    assert len(dataset.questions) == 12
    assert {len(records) for records in dataset.records.values()} == {12}
    assert dataset.records["ranker-2"]["q2"].failure.message == "ValueError: the bridge is closed"


def test_the_folder_of_one_dataset_is_read_as_well(tmp_path):
    assert read_results(rivers(tmp_path)).datasets == read_results(tmp_path).datasets


@pytest.mark.parametrize("folder", ["absent", "a file", "empty"])
def test_a_folder_without_results_is_refused(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a file").write_text("x")
    with pytest.raises(InputError, match="ragcompress evaluate"):
        read_results(tmp_path / folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "holds a list, expected an object"),
        ('{"format": 9}', "format 9, expected 1"),
        ('{"format": 1}', "'metrics' is missing"),
    ],
)
def test_a_broken_summary_is_named(tmp_path, content, said):
    path = rivers(tmp_path) / "ranker-2.json"
    path.write_text(content)
    with pytest.raises(InputError, match=re.escape(said)) as raised:
        read_results(tmp_path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "judge"}, "kind is 'judge'"),
        ({"reader": None, "counter": 3}, "counter is 3, expected a string"),
        ({"metrics": {"f1": {"mean": "high", "low": 0, "high": 1, "n": 1}}}, "mean of f1 is 'high'"),
        ({"settings": []}, "settings is [], expected an object"),
        ({"n_answered": None}, "n_answered is None, expected a whole number"),
        ({"judge": "me"}, "judge is 'me', expected an object or null"),
        ({"compared_with": None}, "compared_with is None, expected an object"),
        ({"first_failures": [3]}, "first_failures is [3], expected strings"),
    ],
)
def test_a_summary_with_a_wrong_field_is_named(tmp_path, fields, said):
    path = rivers(tmp_path) / "ranker-2.json"
    change(path, **fields)
    with pytest.raises(InputError, match=re.escape(said)) as raised:
        read_results(tmp_path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("sha256", "cd" * 32, ("ab" * 32, "cd" * 32)),
        ("selection", {"limit": 5}, ('"limit": null', '"limit": 5')),
        ("reader", "another-reader", ("tiny-reader", "another-reader")),
        ("counter", "letters", ("words", "letters")),
        ("reader_settings", {"max_new_tokens": 99}, ('"max_new_tokens": 16', '{"max_new_tokens": 99}')),
    ],
)
def test_results_that_do_not_belong_together_are_refused_with_both_values(tmp_path, field, value, shown):
    path = rivers(tmp_path) / "ranker-2.json"
    change(path, **{field: value})
    with pytest.raises(InputError) as raised:
        read_results(tmp_path)
    message = str(raised.value)
    assert "'rivers'" in message
    assert str(path) in message
    assert all(each in message for each in shown)


def test_one_name_from_two_folders_is_checked_as_well(tmp_path):
    rivers(tmp_path / "a")
    rivers(tmp_path / "b", sha256="cd" * 32)
    (tmp_path / "a" / "rivers").rename(tmp_path / "first")
    (tmp_path / "b" / "rivers").rename(tmp_path / "second")
    with pytest.raises(InputError, match=r"abab.*cdcd"):
        read_results(tmp_path)
    for path in (tmp_path / "second").glob("*.json"):
        change(path, sha256="ab" * 32)
    with pytest.raises(InputError, match="Keep one of them"):
        read_results(tmp_path)


def test_a_contestant_that_was_not_answered_may_stand_beside_others(tmp_path):
    place = rivers(tmp_path)
    change(place / "ranker-2.json", reader=None, reader_settings=None)
    change(place / "ranker-10.json", n_answered=0, reader_settings={"max_new_tokens": 99})
    assert len(read_results(tmp_path).datasets[0].summaries) == 6


def test_answers_under_different_judges_are_refused_and_those_without_one_are_not(tmp_path):
    place = rivers(tmp_path)
    change(place / "ranker-2.json", judge={"name": "strict"})
    assert len(read_results(tmp_path).datasets[0].summaries) == 6
    change(place / "ranker-10.json", judge={"name": "mild"})
    with pytest.raises(InputError, match="different judges") as raised:
        read_results(tmp_path)
    assert all(each in str(raised.value) for each in ("strict", "ranker-2.json", "mild", "ranker-10.json"))


def test_a_comparison_with_an_earlier_run_is_marked_on_the_page_and_below_the_table(tmp_path):
    place = rivers(tmp_path)
    assert "earlier run" not in pages(tmp_path) + markdown(tmp_path)
    change(place / "ranker-2.json", fingerprint="a newer one")
    said = "ranker-2--first-tokens, ranker-2--trimmer were compared with an earlier run of ranker-2; evaluate again."
    assert f'<p class="note">{said}</p>' in pages(tmp_path)
    assert markdown(tmp_path).endswith(f"\n\n{said}\n")
    (place / "ranker-2.json").unlink()
    gone = "an earlier run of ranker-2, of which there is no summary any more; evaluate again."
    assert gone in pages(tmp_path)
    assert gone in markdown(tmp_path)


def test_the_finding_takes_no_difference_from_an_earlier_run(tmp_path):
    place = rivers(tmp_path)
    assert "points" in finding(read_results(tmp_path).datasets[0])
    change(place / "all-documents.json", fingerprint="a newer one")
    said = finding(read_results(tmp_path).datasets[0])
    assert "ranker-10 does best" in said
    assert "points" not in said
    assert "interval" not in said


def test_records_of_another_run_are_left_out_and_that_is_said(tmp_path):
    change(rivers(tmp_path) / "ranker-2.json", fingerprint="another")
    (dataset,) = read_results(tmp_path).datasets
    assert "ranker-2" not in dataset.records
    assert "ranker-2.jsonl is of another run" in " ".join(dataset.notes)


def test_half_a_line_at_the_end_of_an_interrupted_run_is_left_out(tmp_path):
    path = rivers(tmp_path) / "ranker-2.jsonl"
    path.write_text(path.read_text()[:-20])
    assert len(read_results(tmp_path).datasets[0].records["ranker-2"]) == 11


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("ranker-2.jsonl", "{oops", "is not JSON"),
        ("ranker-2.jsonl", "[]", "holds a list"),
        ("ranker-2.jsonl", '{"id": "q1"}', "'segments' is missing"),
        ("ranker-2.jsonl", '{"id": "q1", "segments": [], "metrics": {"f1": "x"}}', "f1 is 'x'"),
        (
            "ranker-2.jsonl",
            '{"id": "q", "segments": [], "metrics": {}, "failure": {"step": "read", "message": 3}}',
            "message is 3",
        ),
        ("ranker-2.jsonl", '{"id": 1, "segments": [], "metrics": {}}', "id is 1"),
        ("ranker-2.jsonl", '{"id": "q", "segments": [{"sources": [["a", 0, 1]]}], "metrics": {}}', "a source is"),
        ("questions.jsonl", '{"id": "q1"}', "question must be a text"),
    ],
)
def test_a_broken_line_is_named_with_its_number(tmp_path, name, line, said):
    path = rivers(tmp_path) / name
    lines = path.read_text().splitlines()
    lines[3] = line
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=re.escape(said)) as raised:
        read_results(tmp_path)
    assert f"{path}:4" in str(raised.value)


def test_a_page_without_questions_says_why(tmp_path):
    place = rivers(tmp_path)
    assert "Not shown:" not in pages(tmp_path)
    for path in place.glob("*.jsonl"):
        path.unlink()
    page = pages(tmp_path)
    assert "Not shown: the folder of results has no questions.jsonl and no records" in page
    assert 'id="questions-0"' not in page


def test_peers_that_did_not_run_and_records_left_out_are_said(tmp_path):
    rivers(tmp_path)
    ours = read_results(tmp_path).datasets[0].summaries[0]
    fields = {"kind": "peer", "metrics": {}, "n_questions": 0, "n_left_out": 3, "skipped": "trimwise <needs> trimwise."}
    write_summary(tmp_path / "rivers", replace(ours, contestant="trimwise", **fields))
    dataset = read_results(tmp_path).datasets[0]
    assert "trimwise" not in {each.contestant for each in dataset.summaries}
    left_out = "3 records of the data could not be used: left out with --skip-bad."
    assert dataset.missing == (left_out, "trimwise did not run: trimwise <needs> trimwise.")
    assert left_out in markdown(tmp_path)
    page = write_report(tmp_path, tmp_path / "page.html").read_text()
    assert "trimwise did not run: trimwise &lt;needs&gt; trimwise." in page
    assert "trimwise did not run: trimwise \\<needs\\> trimwise." in markdown(tmp_path)
    for path in (tmp_path / "rivers").glob("*.json"):
        if path.stem != "trimwise":
            path.unlink()
    with pytest.raises(InputError, match=r"there is no summary in .* but of peers that did not run"):
        read_results(tmp_path)


def test_failures_and_unequal_hardware_are_said(tmp_path):
    change(rivers(tmp_path) / "ranker-10.json", environment={"processor": "another"})
    notes = " ".join(read_results(tmp_path).datasets[0].notes)
    assert "ranker-2: 1 of 12 questions failed (compress: 1). q2: ValueError" in notes
    assert "times cannot be compared" in notes


def test_messages_of_failures_are_shown_as_one_visible_line(tmp_path):
    each = question(0)
    failed = Record("q0", failure=Failure("compress", "ValueError: first\nsecond\x1b[2J \x07" + "and so on " * 1000))
    contestants = {"all-documents": ("baseline", None, [record(each, 1)]), "ranker": ("compressor", None, [failed])}
    place = write_dataset(tmp_path, [each], contestants)
    change(place / "ranker.json", first_failures=[f"q0: {failed.failure.message}"])
    shown = packed(pages(tmp_path))["records"][1][0]["failure"][1]
    assert shown.startswith("ValueError: first second\N{REPLACEMENT CHARACTER}[2J \N{REPLACEMENT CHARACTER}and so")
    assert len(shown) == 200
    (note,) = [note for note in read_results(tmp_path).datasets[0].notes if "failed" in note]
    start = "ranker: 1 of 1 questions failed (compress: 1). "
    assert note.startswith(f"{start}q0: {shown[:190]}")
    assert len(note) == len(start) + 200


def test_compressors_stand_before_what_was_cut_to_their_length_and_10_after_2(tmp_path):
    rivers(tmp_path)
    summaries = read_results(tmp_path).datasets[0].summaries
    assert [each.contestant for each in in_order(summaries)] == [
        "all-documents", "no-context", "ranker-2", "ranker-2--first-tokens", "ranker-2--trimmer", "ranker-10",
    ]  # fmt: skip
    looks = appearances(summaries)
    assert looks["ranker-2"].family == looks["ranker-10"].family == "ranker"
    assert looks["ranker-2--first-tokens"].label == "first-tokens"
    assert len({look.shape + look.colour for look in looks.values()}) == 5


def test_markdown_has_a_row_a_contestant_and_only_columns_that_occur(tmp_path):
    rivers(tmp_path)
    lines = markdown(tmp_path).splitlines()
    assert lines[0] == "12 questions; answered by tiny-reader; tokens of words."
    assert lines[2] == (
        "| contestant | tokens | token compression | contains (%) | F1 (%) | sentence recall (%) "
        "| added latency (p50 / p95, ms) | in all (p50 / p95, ms) | failed |"
    )
    assert lines[4].startswith("| all-documents | 40 | 1.0× | 91.7 (")
    assert lines[6].startswith("| **ranker-2** | 10.0 | 4.0× | 90.9 (")
    assert lines[6].endswith(" | 5.0 / 5.0 (n 11) | 115 / 115 (n 11) | 1 |")
    assert lines[7].startswith("| first-tokens, at the length of ranker-2 | 7.0 (70 %) | 5.7× | 50.0 (")
    assert "\N{BLACK DOWN-POINTING TRIANGLE}" in lines[5]
    assert {line.count(" | ") for line in lines[4:10]} == {8}


def test_a_mean_of_fewer_questions_says_how_many(tmp_path):
    rivers(tmp_path)
    lines = markdown(tmp_path).splitlines()
    assert re.search(r"\| 90\.9 \([\d.]+–100\.0, n 11\) \|", lines[6])
    assert not any("n 12" in line for line in lines)
    assert "n: number of questions" in lines[-3]
    page = pages(tmp_path)
    assert re.search(r"<td[^>]*>90\.9<small>[\d.]+–100\.0 · n 11</small>", page)
    assert "n: number of questions" in page


def test_equal_numbers_of_questions_are_not_told(tmp_path):
    questions = [question(number) for number in range(3)]
    every = [record(each, 1) for each in questions]
    write_dataset(tmp_path, questions, {"all-documents": ("baseline", None, every), "a": ("compressor", None, every)})
    for text in (pages(tmp_path), markdown(tmp_path)):
        assert "n: number of questions" not in text
        assert "n 3" not in text


def test_what_does_not_fill_the_length_allowed_says_so(tmp_path):
    rivers(tmp_path)
    page = pages(tmp_path)
    assert "70 % of the tokens of ranker-2" in page
    assert "100 % of the tokens of ranker-2" in page
    assert re.search(r"<td[^>]*>7\.0 \(70 %\)<small>", page)
    assert "100 %)" not in page
    assert "more than chance. n: number of questions, where others in the column have more. % beside tokens" in page
    assert markdown(tmp_path).splitlines()[-1].startswith("% beside tokens: ")
    rivers(tmp_path, name="lakes")
    assert "7.0 tokens (70 %)" in pages(tmp_path)


@pytest.mark.parametrize(("n_tokens", "said"), [(8.99, "89 %"), (9.0, ""), (10.0, "")])
def test_a_length_below_nine_tenths_is_not_equal(n_tokens, said):
    tokens = {name: {"tokens": estimate(mean, mean, mean)} for name, mean in (("a", 10.0), ("b", n_tokens))}
    base = summary("a", [], [], metrics=tokens["a"])
    cut = summary("a--b", [], [], kind="peer", matched_to="a", metrics=tokens["b"])
    assert low_share(cut, [base, cut]) == said
    assert low_share(base, [base, cut]) == ""


def test_a_share_of_no_length_is_not_told():
    base = summary("a", [], [], metrics={"tokens": estimate(0.0, 0.0, 0.0)})
    cut = summary("a--b", [], [], matched_to="a", metrics={"tokens": estimate(0.0, 0.0, 0.0)})
    assert share_of_budget(cut, [base, cut]) is None
    assert share_of_budget(cut, [cut]) is None


def test_a_peer_that_was_cut_to_no_length_is_not_said_to_be(tmp_path):
    questions = [question(number) for number in range(3)]
    every = [record(each, 1) for each in questions]
    contestants = {"all-documents": ("baseline", None, every), "ranker": ("compressor", None, every)}
    write_dataset(tmp_path, questions, {**contestants, "extractor": ("peer", None, every)})
    page = pages(tmp_path)
    assert "<bdi>extractor</bdi><small>peer, at a length of its own</small>" in page
    assert "cut to" not in page
    assert "| extractor, at a length of its own | 10.0 |" in markdown(tmp_path)
    assert "at the length of" not in markdown(tmp_path)


def test_markdown_has_a_heading_for_each_of_several_datasets(tmp_path):
    rivers(tmp_path)
    rivers(tmp_path, name="lakes_2")
    text = markdown(tmp_path)
    assert text.index("### lakes\\_2") < text.index("### rivers")


def test_markdown_lets_no_markup_through(tmp_path):
    place = rivers(tmp_path)
    for path in place.glob("*.json"):
        change(path, reader=HOSTILE + "\n\n# title", counter="a|b")
    text = markdown(tmp_path)
    assert "<script" not in re.sub(r"\\<", "", text)
    assert "\n# title" not in text
    assert "tokens of a\\|b." in text


def hostile_results(folder):
    each = question(0, question=f"why {HOSTILE}", answers=[HOSTILE], docs=[{"title": HOSTILE, "text": f"ab {HOSTILE}"}])
    written = (KeptSegment(((0, None, None),), HOSTILE, 0.5), KeptSegment(((0, 0, 9),), score=-2.5))
    made = record(each, 1, answer=HOSTILE, segments=written)
    failed = Record(each.id, failure=Failure("read", HOSTILE))
    return write_dataset(
        folder, [each],
        {"all-documents": ("baseline", None, [made]), "ranker": ("compressor", None, [made]), "z": ("peer", None, [failed])},
        reader=HOSTILE, counter=HOSTILE, settings={HOSTILE: {HOSTILE: HOSTILE}}, environment={HOSTILE: [HOSTILE]},
    )  # fmt: skip


def test_what_is_untrusted_reaches_the_page_as_text_alone(tmp_path):
    place = hostile_results(tmp_path)
    for path in place.glob("*.json"):
        change(path, dataset=HOSTILE, metrics={}, differences={})
    change(place / "ranker.json", contestant=HOSTILE, matched_to=HOSTILE)
    page = pages(tmp_path)
    assert HOSTILE not in page
    assert "window.hacked" not in re.sub(
        r"&lt;script&gt;window\.hacked = 1|\\u003cscript\\u003ewindow\.hacked = 1", "", page
    )
    assert page.count("<script") == page.count("</script>") == 3
    assert "<!--" not in page
    assert "<img" not in page
    assert packed(page)["questions"][0]["documents"][0]["text"] == f"ab {HOSTILE}"


def test_a_page_runs_its_own_script_alone_and_loads_nothing(tmp_path):
    rivers(tmp_path)
    page = pages(tmp_path)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    script = re.search(r"<script>(.*?)</script>", page, flags=re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith(
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:;"
    )
    without_namespace = page.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|\b(src|href)=|@import|url\(", without_namespace)
    assert "innerHTML" not in script


def test_control_characters_and_numbers_that_are_none_do_not_break_the_page(tmp_path):
    place = hostile_results(tmp_path)
    for path in place.glob("*.json"):
        change(
            path,
            reader="a\x00b\ud800",
            metrics={"tokens": {"mean": float("nan"), "low": float("-inf"), "high": float("inf"), "n": 1}},
        )
    records = place / "ranker.jsonl"
    records.write_text(records.read_text().replace("-2.5", "NaN"))
    page = pages(tmp_path)
    assert "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}" in page
    drawn = json.loads(re.search(r'id="drawn">(.*?)</script>', page)[1])
    assert drawn[0]["contestants"][0]["metrics"]["tokens"]["at"] is None
    assert packed(page)["records"][1][0]["segments"][1]["score"] is None


def test_equal_results_give_equal_pages(tmp_path):
    rivers(tmp_path)
    assert pages(tmp_path) == pages(tmp_path)


def test_questions_that_changed_come_first_and_the_rest_is_counted(tmp_path):
    rivers(tmp_path)
    found = packed(pages(tmp_path, n_questions=3))
    # 0 was broken, 1 mended, and 2 failed; the first tokens break every other one, which is less.
    assert [each["id"] for each in found["questions"]] == ["q0", "q1", "q2"]
    assert found["n_left_out"] == 9
    assert len(packed(pages(tmp_path))["questions"]) == 12


def test_without_answers_questions_that_lost_evidence_come_first(tmp_path):
    questions = [question(number) for number in range(4)]
    every = [record(each, None, n_tokens=40) for each in questions]
    short = [record(each, None, n_tokens=7 if number == 3 else 10) for number, each in enumerate(questions)]
    contestants = {"all-documents": ("baseline", None, every), "ranker": ("compressor", None, short)}
    write_dataset(tmp_path, questions, contestants, reader=None)
    page = pages(tmp_path, n_questions=1)
    assert [each["id"] for each in packed(page)["questions"]] == ["q3"]
    assert json.loads(re.search(r'id="drawn">(.*?)</script>', page)[1])[0]["accuracy"][0] == "support_recall"
    assert "nothing was answered" in page


def test_no_question_is_embedded_where_none_is_wanted(tmp_path):
    rivers(tmp_path)
    page = pages(tmp_path, n_questions=0)
    assert 'id="questions-0"' not in page
    assert "Not shown: the page was asked for none." in page
    assert "rises in the hills" not in page


def test_spans_are_counted_as_a_browser_counts(tmp_path):
    text = "\N{DUCK}\N{DUCK} swim here."
    each = question(0, docs=[{"title": "", "text": text}])
    made = record(each, 1, kept=((0, 3, 7, 0.5), (5, 0, 1, 0.5), (0, 12, 99, 0.9)))
    write_dataset(tmp_path, [each], {"ranker": ("compressor", None, [made])})
    found = packed(pages(tmp_path))
    units = found["questions"][0]["documents"][0]["text"].encode("utf-16-le")
    ((_, start, end),) = found["records"][0][0]["segments"][0]["sources"]
    assert units[2 * start : 2 * end].decode("utf-16-le") == "swim"
    assert found["records"][0][0]["segments"][1]["sources"] == []
    assert found["records"][0][0]["segments"][2]["sources"] == [[0, 14, 15]]
    assert [segment["level"] for segment in found["records"][0][0]["segments"]] == [1, 1, 5]


def test_times_of_peers_are_explained_where_there_are_any(tmp_path):
    rivers(tmp_path)
    said = "Added latency leaves out what a store keeps of the documents; peers encode them in every call."
    assert said in pages(tmp_path)
    assert said in markdown(tmp_path)
    each = question(0)
    write_dataset(tmp_path / "other", [each], {"ranker": ("compressor", None, [record(each, 1)])})
    assert said not in pages(tmp_path / "other")
    assert said not in markdown(tmp_path / "other")


def test_what_was_counted_is_not_rounded(tmp_path):
    each = question(0)
    made = record(each, 1, metrics={"all_characters": 13457, "read_ms": 1234.567})
    write_dataset(tmp_path, [each], {"ranker": ("compressor", None, [made])})
    metrics = packed(pages(tmp_path))["records"][0][0]["metrics"]
    assert (metrics["all_characters"], metrics["read_ms"]) == (13457, 1235.0)


def test_the_finding_says_on_how_many_questions_means_stand_where_they_differ(tmp_path):
    rivers(tmp_path)
    (dataset,) = read_results(tmp_path).datasets
    ours = summary("ranker-2", [], [], metrics={"f1": estimate(0.6, 0.5, 0.7, n=40)})
    everything = summary("all-documents", [], [], kind="baseline", metrics={"f1": estimate(0.5, 0.4, 0.6, n=20)})
    said = finding(replace(dataset, summaries=(everything, ours)))
    assert said == "All documents: 50.0 % (F1) on 20 questions. ranker-2: 60.0 % (F1) on 40 questions."


def test_a_huge_passage_is_cut_and_the_rest_counted(tmp_path):
    each = question(0, docs=[{"title": "", "text": "word " * 100_000}])
    write_dataset(tmp_path, [each], {"ranker": ("compressor", None, [record(each, 1, kept=((0, 0, 400_000, 1.0),))])})
    (document,) = packed(pages(tmp_path))["questions"][0]["documents"]
    assert len(document["text"]) == 20_000
    assert document["n_left_out"] == 480_000


def test_the_finding_says_whether_the_gain_is_beyond_chance(tmp_path):
    rivers(tmp_path)
    (dataset,) = read_results(tmp_path).datasets
    assert finding(dataset).startswith(
        "All documents: 91.7 % (contains) with 40 tokens. Of 2 compressors, ranker-10 does best: "
    )
    assert finding(dataset).endswith(
        "+0.0 points (95 % interval 0.0 to 0.0: the same on every question). "
        "The interval is not corrected for choosing the best of 2."
    )
    better = summary(
        "ranker-2", [], [], metrics={"f1": estimate(0.6, 0.5, 0.7)}, differences={"f1": estimate(0.1, 0.05, 0.2)}
    )
    everything = summary("all-documents", [], [], kind="baseline", metrics={"f1": estimate(0.5, 0.4, 0.6)})
    said = finding(replace(dataset, summaries=(everything, better)))
    assert said.endswith("ranker-2: 60.0 % (F1), +10.0 points (95 % interval 5.0 to 20.0: more than chance).")


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (Estimate(1.0, 1.0, 1.0, 1), "1 question is too few to tell it from chance"),
        (Estimate(0.4, 0.1, 0.7, 9), "9 questions are too few to tell it from chance"),
        (Estimate(0.0, 0.0, 0.0, 10), "the same on every question"),
        (Estimate(1.0, 1.0, 1.0, 10), "more than chance"),
        (Estimate(0.4, -0.1, 0.7, 10), "within chance"),
        (Estimate(0.4, 0.1, 0.7, 10), "more than chance"),
        (Estimate(-0.4, -0.7, -0.1, 10), "less, beyond chance"),
    ],
)
def test_a_difference_has_a_verdict_only_where_questions_allow_one(difference, said):
    assert verdict(difference) == said
    marks = {"more than chance": "more", "less, beyond chance": "less"}
    assert direction(difference) == marks.get(said, "")


def test_one_question_gives_no_verdict_anywhere(tmp_path):
    each = question(0)
    contestants = {
        "all-documents": ("baseline", None, [record(each, 0)]),
        "ranker": ("compressor", None, [record(each, 1)]),
    }
    write_dataset(tmp_path, [each], contestants)
    (dataset,) = read_results(tmp_path).datasets
    assert dataset.summaries[1].differences["f1"].low > 0
    page, table = pages(tmp_path), markdown(tmp_path)
    assert "100.0: 1 question is too few to tell it from chance)." in finding(dataset)
    assert "not corrected" not in finding(dataset)
    assert "than chance" not in page
    assert not re.search("[\N{BLACK UP-POINTING TRIANGLE}\N{BLACK DOWN-POINTING TRIANGLE}]", table)


def test_several_datasets_have_an_overview_with_a_mean(tmp_path):
    rivers(tmp_path)
    assert "All datasets" not in pages(tmp_path)
    rivers(tmp_path, name="lakes")
    page = pages(tmp_path)
    assert "The mean counts each of 2 datasets the same" in page
    assert re.search(r"mean of 2<small>contains \(%\)</small>", page)


@pytest.mark.parametrize("out", ["rivers", "absent/page.html", "-", "rivers/ranker-2.json", "rivers/questions.jsonl"])
def test_a_page_is_not_written_where_it_must_not_be(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    rivers(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for write in (lambda: write_report(tmp_path, out), lambda: markdown(tmp_path, out=out)):
        with pytest.raises(OptionError, match="--out"):
            write()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_negative_number_of_questions_is_refused(tmp_path):
    with pytest.raises(OptionError, match="questions"):
        write_report(rivers(tmp_path), tmp_path / "page.html", n_questions=-1)


def test_without_jinja_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    rivers(tmp_path)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'ragcompress[evaluation]'")):
        write_report(tmp_path, tmp_path / "page.html")
    assert markdown(tmp_path)


def command(*arguments):
    app = typer.Typer()
    app.command()(report)
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_the_command_writes_a_page_or_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rivers(tmp_path)
    done = command(".")
    assert done.exit_code == 0
    assert done.stderr.startswith("wrote report.html (0.")
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert command(".", "--out", "other.html", "--questions", "2").exit_code == 0
    assert len(packed((tmp_path / "other.html").read_text())["questions"]) == 2
    assert command(".", "--markdown").stdout == markdown(tmp_path)
    assert command(".", "--markdown", "--out", "table.md").stdout == ""
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == markdown(tmp_path)


def test_a_number_of_questions_for_tables_is_refused(tmp_path):
    assert isinstance(command(rivers(tmp_path), "--markdown", "--questions", "3").exception, OptionError)

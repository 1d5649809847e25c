"""Write the tables of results into benchmarks/README.md, README.md and docs/corpora.md, between markers.

python benchmarks/tables.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import corpus_tables
import evaluation_tables
import scorer_tables
from cells import Results, ends, number, share, table
from cells import ratio_cell as _ratio

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
BEGIN, END = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"


def read_results(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Read all results.

    Args:
        folder: of the JSON files.

    Returns:
        By name of the experiment, sorted.
    """
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def target_line(target: Mapping[str, Any]) -> str:
    """Write a requirement and what came out in one line.

    Args:
        target: see ``measures.common.target``.

    Returns:
        The text.
    """
    sign = "<=" if target["at_most"] else ">="
    verdict = "reached" if target["reached"] else "NOT REACHED"
    return f"{target['name']}: {number(target['value'])} {target['unit']} (asked: {sign} {target['limit']:g}) {verdict}"


def targets_table(results: Results) -> str:
    """All requirements with what came out.

    Args:
        results: by experiment.

    Returns:
        Markdown.
    """
    rows = []
    for each in results.values():
        for target in each["results"]["targets"]:
            sign = "≤" if target["at_most"] else "≥"
            reached = "yes" if target["reached"] else "**no**"
            value = f"{number(target['value'])} {target['unit']}"
            rows.append([target["name"], value, f"{sign} {target['limit']:g} {target['unit']}", reached])
    return table(["measured", "value", "asked for", "reached"], rows)


def quality_table(result: Mapping[str, Any]) -> str:
    """All variants of one quality experiment.

    Args:
        result: of the experiment.

    Returns:
        Markdown.
    """
    header = ["", "sentences", "recall", "95 %", "precision", "95 %", "every gold sentence", "tokens", "characters",
              "recall of default minus this"]  # fmt: skip
    rows = []
    for name, by_k in result["results"]["variants"].items():
        for k, each in by_k.items():
            difference = (
                f"{share(each['default_recall_minus_this'])} {ends(each['default_recall_minus_this_interval'])}"
            )
            rows.append([
                f"{name}, {k}", number(each["sentences"]), share(each["recall"]), ends(each["recall_interval"]),
                share(each["precision"]), ends(each["precision_interval"]), share(each["all_gold"]),
                share(each["tokens"]), share(each["characters"]), "" if name == "default" else difference,
            ])  # fmt: skip
    return table(header, rows)


def optimizer_lines(result: Mapping[str, Any]) -> list[str]:
    """What has to be said about how the peer was cut.

    Args:
        result: of a quality experiment.

    Returns:
        Lines of Markdown.
    """
    lines = []
    default = result["results"]["variants"]["default"]
    ours = ", ".join(number(each["sentence_tokens"]) for each in default.values())
    for name, note in result["results"]["optimizers"].items():
        least = note["least_sentence_tokens_unrepaired"]
        missed = [k for k, each in note.items() if isinstance(each, dict) and not each["matched"]]
        if missed:
            where = ", ".join(missed)
            lines.append(f"* {name}: no cut keeps as few tokens as ours at {where} sentences; its nearest is shown.")
        if least is not None:
            at_least = f"without our repair it keeps at least {number(least)} tokens a question at any percentile"
            lines.append(f"* {name}: {at_least} (ours above: {ours}).")
    return lines


def as_it_is_table(result: Mapping[str, Any]) -> str:
    """The peer without our repair, and ours with as many tokens.

    Args:
        result: of a quality experiment.

    Returns:
        Markdown; an empty string where it was not measured.
    """
    header = ["SentenceEmbeddingOptimizer as it is", "tokens", "its recall", "95 %", "our recall", "95 %", "difference",
              "its precision", "ours"]  # fmt: skip
    rows = []
    for name, each in result["results"]["as_it_is"].items():
        theirs, ours = each["optimizer"], each["ragcompress"]
        difference = theirs["default_recall_minus_this"], theirs["default_recall_minus_this_interval"]
        rows.append([
            name, number(theirs["sentence_tokens"]), share(theirs["recall"]), ends(theirs["recall_interval"]),
            share(ours["recall"]), ends(ours["recall_interval"]), f"{share(difference[0])} {ends(difference[1])}",
            share(theirs["precision"]), share(ours["precision"]),
        ])  # fmt: skip
    return table(header, rows) if rows else ""


def speed_tables(results: Results) -> list[str]:
    """Times of the cold, warm and peer experiments.

    Args:
        results: by experiment.

    Returns:
        Markdown blocks.
    """
    blocks = []
    for name, result in results.items():
        values = result["results"]
        if result["benchmark"] in ("cold", "warm"):
            ratios = values.get("over_bare") or {"compress": values["over_query_alone"]}
            rows = [
                [key, number(each), _ratio(ratios[key]) if key in ratios else ""]
                for key, each in values["milliseconds"].items()
            ]
            blocks += [f"#### {name}", table(["", "ms a question (median)", "ratio"], rows)]
        if result["benchmark"] == "peers":
            for peer, each in values["peers"].items():
                rows = [
                    [peer if key == "peer" else key, number(took), _ratio(each["faster"][key]) if key != "peer" else ""]
                    for key, took in each["milliseconds"].items()
                ]
                kept = (
                    f"{number(each['documents_per_question'])} documents a question; sentences kept: "
                    f"{number(each['kept_by_peer'])} by the peer, {number(each['kept_by_ragcompress'])} by ours."
                )
                blocks += [f"#### {name}: {peer}", kept, table(["", "ms a question (median)", "faster"], rows)]
    return blocks


def other_tables(results: Results) -> list[str]:
    """Memory, startup, batch sizes and the persistent store.

    Args:
        results: by experiment.

    Returns:
        Markdown blocks.
    """
    blocks = []
    for name, result in results.items():
        values = result["results"]
        if result["benchmark"] == "memory":
            rows = []
            for key, label in (("no_store", "without a store"), ("store", "with a store")):
                each = values[key]
                for queries, peak in each["peak_mib"].items():
                    peaks = each["all_peaks_mib"][queries]
                    spread = f"{number(min(peaks), 4)} to {number(max(peaks), 4)}"
                    rows.append([f"{label}, {queries} queries", number(each["before_mib"], 4), number(peak, 4), spread])
            header = ["MiB", "after one query", "peak (median)", "peak (least to most)"]
            blocks += [f"#### {name}", table(header, rows)]
        if result["benchmark"] == "startup":
            rows = [[key, f"{each * 1000:.0f}"] for key, each in values["seconds"].items()]
            rows.append(["import, measured inside", f"{values['import_inside_seconds'] * 1000:.0f}"])
            blocks += [f"#### {name}", table(["fresh process", "ms (median)"], rows)]
        if result["benchmark"] == "batching":
            rows = [
                [key, number(each["many_documents"]), number(each["one_query"])]
                for key, each in values["sentences_per_second"].items()
            ]
            header = ["format, batch_tokens", "sentences/s, many documents", "sentences/s, one question at a time"]
            blocks += [f"#### {name}", table(header, rows)]
        if result["benchmark"] == "store":
            blocks += [f"#### {name}", *store_tables(result)]
    return blocks


def store_tables(result: Mapping[str, Any]) -> list[str]:
    """Times and sizes of the persistent store.

    Args:
        result: of its experiment.

    Returns:
        Markdown blocks.
    """
    values, options = result["results"], result["options"]
    get, put = values["get"], values["put_milliseconds_per_document"]
    header = [f"{options['documents']} documents of {options['slots']} x {options['width']}"]
    header += [f"ms for {n_keys} key{'s' * (n_keys != '1')}" for n_keys in get] + ["ms to put one"]
    rows = []
    for label in put:
        cells = []
        for each in get.values():
            ratio = each["over_safetensors_files"].get(label)
            cells.append(number(each["milliseconds"][label]) + (f" ({ratio['value']:.2f} x)" if ratio else ""))
        rows.append([label, *cells, number(put[label])])
    sizes = [
        [size, *(f"{each:.0f}" for each in by_label.values())]
        for size, by_label in values["bytes_per_document"].items()
    ]
    error = values["int8_relative_error"]
    return [
        table(header, rows),
        f"In brackets: over reading one safetensors file a document. Put {options['put']} documents at a time, which "
        "leaves as many pieces; compacted, they are one. The page cache is warm.",
        table(["bytes a document", *next(iter(values["bytes_per_document"].values()))], sizes),
        f"int8 of Gaussian vectors: relative error {number(error['mean'])} on average, "
        f"{number(error['largest of 1000 vectors'])} at most.",
    ]


def latent_tables(results: Results) -> list[str]:
    """Memory tokens: encoding, answering, overhead, threads, fewer bytes.

    Args:
        results: by experiment.

    Returns:
        Markdown blocks; none without such results.
    """
    writers = {
        "latent_encoding": latent_encoding_tables,
        "latent_answering": latent_answering_tables,
        "latent_overhead": latent_overhead_tables,
        "latent_threads": latent_threads_lines,
        "latent_quantised": latent_quantised_tables,
    }
    blocks = []
    for name, result in results.items():
        if result["benchmark"] in writers:
            blocks += [f"#### {name}", model_line(result), *writers[result["benchmark"]](result)]
    return blocks


def model_line(result: Mapping[str, Any]) -> str:
    """What memory tokens were measured with.

    Args:
        result: of a latent experiment.

    Returns:
        A sentence.
    """
    model = result["results"]["model"]
    millions = [model[f"parameters_of_{part}"] / 1e6 for part in ("layers", "an_adapter", "the_head")]
    return (
        f"{model['base']} in {model['dtype']}: {number(millions[0])} million parameters in layers, "
        f"{number(millions[1])} in an adapter, {number(millions[2])} in the head; adapters {model['adapters']}."
    )


def latent_encoding_tables(result: Mapping[str, Any]) -> list[str]:
    """Passages to memory tokens.

    Args:
        result: of its experiment.

    Returns:
        Markdown blocks.
    """
    values = result["results"]
    rows = [
        [label, number(each), _ratio(values["faster"][label]) if label in values["faster"] else ""]
        for label, each in values["milliseconds"].items()
    ]
    positions, difference = values["positions_of_a_passage"], values["largest_difference"]
    return [
        table(["", "ms for the passages of a question (median)", "ragcompress is faster by"], rows),
        f"{values['passages']} passages of {result['data']['name']}: {number(positions['mean'])} positions on average, "
        f"{positions['padded']} padded ({positions['padded'] / positions['mean']:.2f} x); "
        f"{share(values['share_of_full_length'])} of them fill it. The vectors differ from padded ones by "
        f"{number(difference['over_norm'], 2)} of their norm at most ({number(difference['any_number'], 2)} in any "
        "number).",
    ]


def latent_answering_tables(result: Mapping[str, Any]) -> list[str]:
    """Time to the first and to the last token.

    Args:
        result: of its experiment.

    Returns:
        Markdown blocks.
    """
    values, options = result["results"], result["options"]
    times, prefills = [], []
    for shape, each in values["shapes"].items():
        n_prompts, _, n_documents = shape.partition(" x ")
        label = f"{n_documents} documents" + (f", {n_prompts} prompts" if n_prompts != "1" else "")
        for contestant, took in each["milliseconds"].items():
            first = number(each["first_token_milliseconds"][contestant])
            faster = [each[key].get(contestant) for key in ("first_token_faster", "faster")]
            cells = [
                first,
                _ratio(faster[0]) if faster[0] else "",
                number(took),
                _ratio(faster[1]) if faster[1] else "",
            ]
            times.append([f"{label}: {contestant}", *cells])
        if "prefill" in each:
            prefill = each["prefill"]
            tokens, took = prefill["prompt_tokens"], prefill["milliseconds"]
            prefills.append([
                label, f"{number(tokens['text'])} / {number(tokens['memory'])}",
                number(tokens["text"] / tokens["memory"]),
                *(cell for kind in ("text", "text, under the adapter")
                  for cell in (f"{prefill['predicted'][kind]:.2f}", _ratio(prefill["faster"][kind]))),
                f"{number(took['text'])} / {number(took['memory'])}",
                " / ".join(number(prefill["gigaflops_per_second"][kind]) for kind in ("text", "memory")),
            ])  # fmt: skip
    header = ["128 tokens a document", "ms to the first token", "faster", f"ms to the last of {options['new_tokens']}",
              "faster"]  # fmt: skip
    model_header = ["text over memory tokens, forward pass over the prompt", "tokens", "ratio", "predicted", "measured",
                    "predicted, text under the adapter", "measured", "ms", "GFLOP/s"]  # fmt: skip
    published = values["published"]
    sizes = ", ".join(f"{number(each)} ({label})" for label, each in values["bytes_per_document"].items())
    return [
        table(header, times),
        table(model_header, prefills),
        "Predicted: 2 x parameters x tokens, plus attention under a causal mask, plus one row of the head; text goes "
        "through the base model alone, memory tokens through it and an adapter. For OSCAR's published setting "
        "(Mistral-7B, 10 documents, 32 new tokens) the same arithmetic gives "
        f"{published['predicted_ratio']:.2f} x where its table says {published['published_ratio']:.2f} x.",
        f"Bytes of a document: {sizes}.",
    ]


def latent_overhead_tables(result: Mapping[str, Any]) -> list[str]:
    """What happens before the forward pass.

    Args:
        result: of its experiment.

    Returns:
        Markdown blocks.
    """
    by_number = result["results"]["documents"]
    header = ["ms", *(f"{n_documents} documents" for n_documents in by_number)]
    rows = []
    for label in next(iter(by_number.values()))["milliseconds"]:
        cells = []
        for each in by_number.values():
            ratio = each["share_of_prefill"].get(label)
            cells.append(number(each["milliseconds"][label]) + (f" ({100 * ratio['value']:.2f} %)" if ratio else ""))
        rows.append([label, *cells])
    return [table(header, rows), "In brackets: over the forward pass over the prompt (prefill)."]


def latent_threads_lines(result: Mapping[str, Any]) -> list[str]:
    """Several threads on one reader.

    Args:
        result: of its experiment.

    Returns:
        Markdown blocks.
    """
    values = result["results"]
    return [
        f"{values['workers']} threads on one compressor and one reader: {100 * values['equal_answers']:.0f} % of "
        f"{values['compared']} answers equal those of one thread ({values['different_answers_expected']} different "
        f"ones), memory tokens differ by {number(values['largest_difference_of_memory_tokens'])} at most; "
        f"{_ratio(values['throughput'])} the throughput, on {result['environment']['hardware']['cores']} cores that "
        "torch already uses."
    ]


def latent_quantised_tables(result: Mapping[str, Any]) -> list[str]:
    """Fewer bytes.

    Args:
        result: of its experiment.

    Returns:
        Markdown blocks.
    """
    values = result["results"]
    rows = [
        [dtype, number(each["vector_bytes_per_document"], 4), f"{share(each['equal_answers'])} "
         f"{ends(each['equal_answers_interval'])}", share(each["equal_first_tokens"]),
         *(f"{number(each['logit_difference'][key])}" for key in ("mean", "largest")),
         *(f"{number(each['relative_error_of_vectors'][key])}" for key in ("mean", "largest"))]
        for dtype, each in values["stored"].items()
    ]  # fmt: skip
    header = ["stored in", "bytes a document", "equal answers", "equal first tokens", "largest change of a logit, mean",
              "at most", "error of a document's worst vector (mean)", "at most"]  # fmt: skip
    logits = values["logits"]
    return [
        table(header, rows),
        f"Against float32, over {values['answers']} answers of {result['options']['new_tokens']} tokens, "
        f"{values['different_answers']} of them different. Standard deviation of the logits of a first token: "
        f"{number(logits['spread'])}; the best leads the second by {number(logits['first_over_second'])}. Adapters are "
        "random here: what trained ones make of the error may differ.",
    ]


def machine_line(results: Results) -> str:
    """Where and with what it was measured.

    Args:
        results: by experiment.

    Returns:
        A sentence for each different setting.
    """
    lines = []
    for each in results.values():
        environment = each["environment"]
        hardware, libraries = environment["hardware"], environment["libraries"]
        line = (
            f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gib']:.0f} GiB; Python "
            f"{environment['python']}, torch {libraries['torch']}, transformers {libraries['transformers']}, "
            f"sentence-transformers {libraries['sentence-transformers']}; {environment['date']}."
        )
        if line not in lines:
            lines.append(line)
    return "\n\n".join(lines)


def full(results: Results) -> str:
    """Everything, for benchmarks/README.md.

    Args:
        results: by experiment.

    Returns:
        Markdown; an empty string without results.
    """
    if not results:
        return ""
    blocks = [machine_line(results), "### Requirements", targets_table(results), "### Time", *speed_tables(results)]
    blocks += ["### Memory, startup, batches", *other_tables(results)]
    if latent := latent_tables(results):
        about = (
            "Base models are real, adapters and memory tokens random: right for time, no word on the answers' quality."
        )
        blocks += ["### Memory tokens", about, *latent]
    if corpus := corpus_tables.blocks(results):
        blocks += ["### Corpora: retrieval, search, indexing", *corpus]
    if scorers := scorer_tables.scorer_tables(results):
        blocks += ["### Scorers", *scorers]
    for name, result in results.items():
        if result["benchmark"] == "quality":
            values = result["results"]
            blocks += [
                f"### {name}",
                f"{values['questions']} questions, {number(values['passages_per_question'])} passages and "
                f"{number(values['sentences_per_question'])} sentences each.",
                quality_table(result),
                "\n".join(optimizer_lines(result)),
                as_it_is_table(result),
            ]
    return "\n\n".join(block for block in blocks if block)


def summary(results: Results) -> str:
    """The few numbers for the root README.md.

    Args:
        results: by experiment.

    Returns:
        Markdown; an empty string without results.
    """
    if not results:
        return ""
    rows, peer_rows = [], []
    for result in results.values():
        if result["benchmark"] != "quality":
            continue
        dataset = result["data"]["name"]
        variants = result["results"]["variants"]
        # At so few tokens a percentile is no fair match (see benchmarks/README.md): it stands in the second table.
        cuts = [name for name in result["results"]["optimizers"] if "percentile" not in name]
        for name, each in result["results"]["as_it_is"].items():
            theirs, ours = each["optimizer"], each["ragcompress"]
            recalls = [f"{share(one['recall'])} {ends(one['recall_interval'])}" for one in (theirs, ours)]
            peer_rows.append([f"{dataset.removesuffix('.dev')}: {name}", number(theirs["sentence_tokens"]), *recalls])
        for name in ("default", *cuts, "first sentences", "random sentences"):
            cells = [f"{share(each['recall'])} / {share(each['tokens'])}" for each in variants[name].values()]
            label = "ragcompress" if name == "default" else name
            rows.append([f"{dataset.removesuffix('.dev')}: {label}", *cells])
    blocks = [targets_table(results)]
    if rows:
        ks = next(r for r in results.values() if r["benchmark"] == "quality")["options"]["top_k"]
        blocks += [
            "Share of the supporting sentences kept / share of tokens that go into the prompt, MiniLM, all questions:",
            table(["", *(f"top {k}" for k in ks)], rows),
        ]
    if peer_rows:
        blocks += [
            "LlamaIndex's `SentenceEmbeddingOptimizer` by its percentile, and ours cut to as many tokens:",
            table(["", "tokens kept", "its recall", "our recall"], peer_rows),
        ]
    blocks.append(f"Measured on: {machine_line(results)}")
    return "\n\n".join(blocks)


def fill(text: str, block: str) -> str:
    r"""Replace what stands between the markers.

    >>> fill(f"a {BEGIN} old {END} b", "new") == f"a {BEGIN}\nnew\n{END} b"
    True

    Args:
        text: of a file.
        block: what is to stand there.

    Returns:
        The new text; the same without markers.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{BEGIN}\n{block}\n{END}{after}" if begin and end else text


def pages(results: Results) -> dict[Path, str]:
    """Which file gets which block.

    Args:
        results: by experiment.

    Returns:
        Paths and Markdown.
    """
    costs = [corpus_tables.cost_table(each) for each in results.values() if each["benchmark"] == "index_search"]
    evaluated = evaluation_tables.read_summaries()
    more = ["### Evaluation", *evaluation_tables.blocks(evaluated)] if evaluated else []
    short = [
        evaluation_tables.answers_table(evaluated),
        evaluation_tables.kept_table(evaluated),
        evaluation_tables.peers_table(evaluated),
    ]
    return {
        HERE / "README.md": "\n\n".join([full(results), *more]),
        HERE.parent / "README.md": "\n\n".join(block for block in (*short, summary(results)) if block),
        HERE.parent / "docs" / "corpora.md": "\n\n".join(costs[:1]),
    }


def main() -> int:
    """Write the tables.

    Returns:
        Exit status.
    """
    for path, block in pages(read_results()).items():
        if path.is_file() and block:
            old = path.read_text(encoding="utf-8")
            new = fill(old, block)
            if new != old:
                path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Tables about whole corpora: retrieval from an index, its search and its size, and indexing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cells import Results, number, ratio_cell, share, table

# Decimal: as disks and object storage are sold.
_GIGABYTE, _TERABYTE = 10**9, 10**12
_MANY = ((10**6, "a million", _GIGABYTE, "GB"), (10**9, "a billion", _TERABYTE, "TB"))


def blocks(results: Results) -> list[str]:
    """All tables about corpora.

    Args:
        results: by experiment.

    Returns:
        Markdown blocks; none without such results.
    """
    writers = {"clara_retrieval": retrieval_tables, "index_search": search_tables, "indexing": indexing_tables}
    found = []
    for name, result in results.items():
        if result["benchmark"] in writers:
            found += [f"#### {name}", *writers[result["benchmark"]](result)]
    return found


def retrieval_tables(result: Mapping[str, Any]) -> list[str]:
    """A question to the decoder's inputs, without another retriever.

    Args:
        result: of its experiment.

    Returns:
        Markdown blocks.
    """
    values, index = result["results"], result["results"]["index"]
    over = values["over_forward_alone"]
    rows = [
        [label, number(each), ratio_cell(over[label]) if label in over else ""]
        for label, each in values["milliseconds"].items()
    ]
    steps = ", ".join(f"{step} {number(each)}" for step, each in values["step_milliseconds"].items())
    return [
        table(["", "ms a question (median)", "over the forward alone"], rows),
        f"{values['model']['base']} in {values['model']['dtype']}, {index['documents']:,} passages of "
        f"{result['data']['name']}, {number(index['tokens_of_a_document'])} tokens on average, as {index['chunks']:,} "
        f"memories of {index['slots']} x {index['width']}, all of them encoded; {values['questions']} questions of "
        f"{number(values['positions_of_a_question'])} positions, the {result['options']['k']} best documents each. "
        f"Steps inside, ms (medians): {steps}.",
    ]


def search_tables(result: Mapping[str, Any]) -> list[str]:
    """Recall, latency and size.

    Args:
        result: of its experiment.

    Returns:
        Markdown blocks.
    """
    values, options = result["results"], result["options"]
    real = values["real"]
    shape = f"{options['slots']} x {options['width']}"
    named = {f"{int(number_of):,} synthetic, {shape}": each for number_of, each in values["synthetic"].items()}
    named[f"{real['documents']:,} real, {real['slots']} x {real['width']}"] = real
    header = ["recall of the two-stage search", *(f"{n} candidates, {k} best" for n in options["candidates"]
              for k in options["results"])]  # fmt: skip
    recall = [
        [label, *(share(each["recall"][str(n)][str(k)]) for n in options["candidates"] for k in options["results"])]
        for label, each in named.items()
    ]
    times = [
        [f"{label}, {k} best", f"{number(took['exact'])} ({each.get('exact_reads', 'main memory')})",
         number(took["two stages"]), f"{ratio['value']:.3g}"]
        for label, each in named.items()
        for k, took in each["milliseconds"].items()
        for ratio in [each["two_stages_over_exact"][k]]
    ]  # fmt: skip
    sizes = [
        [label, *(number(each[dtype][kind]) for dtype in ("bfloat16", "int8") for kind in ("measured", "computed"))]
        for label, each in values["bytes_per_document"].items()
    ]
    grown = ", ".join(
        f"{number(each['bytes_per_document'])} ({int(number_of):,})" for number_of, each in values["synthetic"].items()
    )
    return [
        table(header, recall),
        table(["ms a question (median)", "exact", "two stages", "two stages over exact"], times),
        cosine_lines(values, options),
        table(
            ["bytes a document on disk", "bfloat16, measured", "computed", "int8, measured", "computed"], sizes
        ),
        "Real passages with their titles, compacted. Computed: vectors, int8 with a float32 scale for each 64 channels "
        "and a short vector of 512 float32, and the text; where less was measured, the file format has compressed it. "
        f"The synthetic corpora of {shape} in bfloat16, with next to no text, take: {grown}; from 50,000 documents on, "
        "the index of the short vectors keeps these once more.",
        "What many documents take, by the same arithmetic, with the text of these passages. 1 GB = 10^9 bytes.",
        cost_table(result),
    ]  # fmt: skip


def cosine_lines(values: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """How hard the task was.

    Args:
        values: results of the search.
        options: of the search.

    Returns:
        A paragraph.
    """
    parts = []
    for number_of, each in values["synthetic"].items():
        cosines = ", ".join(f"{name} {number(value)}" for name, value in each["cosines"].items())
        found = ", ".join(f"{share(value)} ({k} best)" for k, value in each["source_found_by_exact"].items())
        parts.append(
            f"{int(number_of):,} synthetic documents: {cosines}; the exact search finds the source in {found}."
        )
    cosines = ", ".join(f"{name} {number(value)}" for name, value in values["real"]["cosines"].items())
    parts.append(f"Real ones, random adapters: {cosines}.")
    agreed = [each["exact_search_finds_what_we_computed"] for each in (*values["synthetic"].values(), values["real"])]
    shares = ", ".join(f"{100 * each['share']:.4g} % of {each['questions']}" for each in agreed)
    parts.append(
        f"The exact search finds what was computed apart from it, of the {options['results'][-1]} best: {shares}."
    )
    return f"Cosines, likeness {options['likeness']:g}. {' '.join(parts)}"


def cost_table(result: Mapping[str, Any]) -> str:
    """What a million and a billion documents take, by arithmetic; for the top README.md, too.

    Args:
        result: of ``index_search``.

    Returns:
        A Markdown table.
    """
    header = ["documents of one chunk each", "vectors of one, bytes", "short vector, twice", "text"]
    header += [f"{words}, {dtype}" for _, words, _, _ in _MANY for dtype in ("bfloat16", "int8")]
    rows = []
    for each in result["results"]["costs"]:
        parts = each["bytes"]
        besides = parts["short"] + parts["short, indexed"] + parts["text"]
        totals = [
            f"{number(many * (parts[dtype] + besides) / unit)} {name}"
            for many, _, unit, name in _MANY
            for dtype in ("bfloat16", "int8")
        ]
        rows.append([
            f"{each['name']}, {each['slots']} x {each['width']}",
            f"{parts['bfloat16']:,.0f} / {parts['int8']:,.0f} (int8)",
            f"{parts['short'] + parts['short, indexed']:,.0f}" if parts["short"] else "none: a store",
            f"{parts['text']:,.0f}" if parts["text"] else "none: a store",
            *totals,
        ])  # fmt: skip
    return table(header, rows)


def indexing_tables(result: Mapping[str, Any]) -> list[str]:
    """Overhead, a second run, or Ray.

    Args:
        result: of its experiment.

    Returns:
        Markdown blocks.
    """
    writers = {"overhead": overhead_tables, "resume": resume_tables, "ray": ray_tables}
    return writers[result["results"]["part"]](result)


def overhead_tables(result: Mapping[str, Any]) -> list[str]:
    """The engine beside the encoder.

    Args:
        result: of the experiment.

    Returns:
        Markdown blocks.
    """
    values = result["results"]
    rows = []
    for label, each in values["compressors"].items():
        rows.append([
            f"{label}: {each['documents']:,} passages of {number(each['tokens_of_a_document'])} tokens",
            *(number(took) for took in each["seconds"].values()), ratio_cell(each["over_encoder_alone"]),
            *(number(took) for took in each["seconds_inside"].values()),
        ])  # fmt: skip
    header = ["s (median)", "index", "encoder alone", "ratio", "inside: encoder", "split, tokenise, count", "the rest"]
    return [
        table(header, rows),
        "Encoder alone: the calls of the encoder in the first run, made again with what they were given, nothing else. "
        f"The latent model: {values['model']['base']} in {values['model']['dtype']}.",
    ]


def resume_tables(result: Mapping[str, Any]) -> list[str]:
    """A second run.

    Args:
        result: of the experiment.

    Returns:
        Markdown blocks.
    """
    values = result["results"]
    index = values["searchable_index"]
    seconds, over = values["seconds"], values["second_over_first"]
    rows = [
        [kind, *(number(seconds[which][kind]) for which in ("first run", "second run")), f"{over[kind]:.3g} x"]
        for kind in over
    ]
    return [
        table(["s", "first run", "second run", "ratio"], rows),
        f"{values['documents']:,} different passages of {number(values['tokens_of_a_document'])} tokens on average, "
        "MiniLM, into a store. A second run over an index that can be searched, which compares ids and metadata as "
        f"well, takes {number(index['seconds'])} s for the same passages (memories of {index['slots']} x "
        f"{index['width']}, random ones, since to encode them takes too long here).",
    ]


def ray_tables(result: Mapping[str, Any]) -> list[str]:
    """Two engines.

    Args:
        result: of the experiment.

    Returns:
        Markdown blocks.
    """
    values = result["results"]
    each, contents = values.get("milliseconds_of_a_document", {}), values["contents"]
    ratios = "; ".join(f"{label} {ratio_cell(ratio)}" for label, ratio in values["ray_over_local"].items())
    rows = [
        [engine, number(took), number(values["seconds_to_the_first_portion"][engine]),
         number(each[engine]) if engine in each else ""]
        for engine, took in values["seconds"].items()
    ]  # fmt: skip
    header = ["", "s, all", "s to the first finished portion", "ms a document, steady state"]
    equal = "equal" if contents["equal_keys"] else "DIFFERENT"
    return [
        table(header, rows),
        f"{values['documents']:,} passages in {values['portions']} portions, MiniLM, {values['workers']} workers on "
        f"{result['environment']['hardware']['cores']} cores. Ray over local: {ratios}. What was written: "
        f"{equal} keys, equal bits in {100 * contents['equal_bits']:.4g} % of the documents, the largest difference "
        f"of any vector {number(contents['largest_difference_over_norm'], 2)} of its norm.",
    ]

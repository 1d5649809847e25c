"""What the tests of the retriever share: a corpus of nodes, and what must be found in it."""

from llama_index.core.schema import MetadataMode, NodeRelationship, RelatedNodeInfo, TextNode

import ragcompress as rc

QUERY = "Which keeper lit the lamp of tower 7?"
N_TOKENS = 16
SUBJECTS = ("tower", "harbour", "island", "bell", "reef", "lantern")


def node(number):
    subject = SUBJECTS[number % len(SUBJECTS)]
    beginning = f"The {subject} number {number} was built in {1700 + 7 * number} by {number + 2} masons. "
    built = TextNode(
        text=f"{beginning * (1 + number % 3)}Its keeper rowed {number} miles to buy oil.",
        id_=f"node-{number}",
        metadata={"title": f"{subject} {number}", "group": number % 2, "tags": [subject, {"deep": number}]},
        excluded_llm_metadata_keys=["group"],
        excluded_embed_metadata_keys=["tags"],
        start_char_idx=3,
    )
    built.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"file-{number // 2}", metadata={"a": [1]})
    built.relationships[NodeRelationship.NEXT] = RelatedNodeInfo(node_id=f"node-{number + 1}", hash="x")
    return built


def nodes(count=24):
    return [node(number) for number in range(count)]


def documents(found=None):
    return [rc.Document(each.text, each.node_id, each.metadata.get("title")) for each in found or nodes()]


def ids(items):
    return [item.node_id for item in items]


def texts(items):
    return [item.node.get_content(MetadataMode.NONE) for item in items]


def by_cosine(compressor, found=None, query=QUERY):
    """Ids and scores of all documents, best first, computed in full."""
    given = documents(found)
    (vectors,) = compressor.encode_queries([query])
    scores = [max(each) for each in compressor.score(vectors, compressor.encode(given))]
    order = sorted(range(len(given)), key=lambda index: -scores[index])
    return [(given[index].id, scores[index]) for index in order]


def published(compressor, k, found=None, query=QUERY):
    """The answer of the compressor and its reader alone."""
    context = compressor.with_options(top_k=k).compress(query, documents(found))
    return compressor.reader().answer([context], max_new_tokens=N_TOKENS)[0]

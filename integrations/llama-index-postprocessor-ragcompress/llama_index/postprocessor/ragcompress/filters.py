"""LlamaIndex's filters as the equal values that an index of memories is filtered by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from ragcompress import OptionError, copied_metadata

_HINT = "An index compares with == and wants all filters to hold; filter more finely among the nodes that come back."


def to_where(where: Mapping[str, object] | None, filters: MetadataFilters | None) -> dict[str, object] | None:
    """Put both ways to write a filter together.

    Args:
        where: equal metadata by name. No boundary between tenants: see ``RagCompressRetriever``.
        filters: LlamaIndex's, with ``==`` and AND alone.

    Returns:
        Equal metadata by name; None: no filter.

    Raises:
        OptionError: a filter is of another kind, or two name different values for the same metadata.
    """
    if where is not None and (not isinstance(where, Mapping) or not all(isinstance(name, str) for name in where)):
        raise OptionError(f"where must be a mapping from names of metadata to values, got {where!r}.")
    if filters is not None and not isinstance(filters, MetadataFilters):
        raise OptionError(
            f"filters must be a MetadataFilters, got {type(filters).__name__}.",
            hint="where={'name': value} is the short form.",
        )
    found: dict[str, object] = copied_metadata(where)
    for each in () if filters is None else _flat(filters):
        if each.key in found and found[each.key] != each.value:
            raise OptionError(
                f"{each.key!r} is to be both {found[each.key]!r} and {each.value!r}; no document is that.",
                hint="Name each key once, in where or in filters.",
            )
        found[each.key] = each.value
    return found or None


def _flat(filters: MetadataFilters) -> Iterator[MetadataFilter]:
    if filters.condition not in (None, FilterCondition.AND):
        raise OptionError(f"filters are joined by {filters.condition.value!r}; expected 'and'.", hint=_HINT)
    for each in filters.filters:
        if isinstance(each, MetadataFilters):
            yield from _flat(each)
        elif each.operator != FilterOperator.EQ:
            raise OptionError(f"the filter on {each.key!r} compares with {each.operator.value!r}; expected '=='.",
                              hint=_HINT)  # fmt: skip
        else:
            yield each

"""Groups that must stay in one split: items with a common value of a group column, or nearly the same text.

Groups are the connected components of a graph whose nodes are the items and the values by which they are compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SHINGLE_WORDS = 2
"""Words per shingle. On the safety data single words join thousands of template prompts ("Explain the history of ...")
into one component at any threshold that catches rewordings; with pairs and a threshold of .6 the largest component is
below 1% of the items."""
_BLOCK = 512


def shingles(text: str) -> set[tuple[str, ...]]:
    """Pairs of adjacent words of a comparable text, with its start and end counted as words."""
    words = ["", *text.split(), ""]
    return {tuple(words[i : i + SHINGLE_WORDS]) for i in range(len(words) - SHINGLE_WORDS + 1)}


def alike(items: Sequence[frozenset[str]], known: Sequence[frozenset[str]], threshold: float) -> list[bool]:
    """[items] whether one of an item's comparable texts is similar to one of any known item.

    Args:
        items: comparable texts of each item.
        known: comparable texts of each known item.
        threshold: of the similarity.
    """
    own = sorted({text for texts in items for text in texts})
    others = sorted({text for texts in known for text in texts})
    left, _ = similar_pairs(own, threshold, others)
    near = {own[place] for place in np.unique(left).tolist()}
    return [not texts.isdisjoint(near) for texts in items]


def similar_pairs(
    texts: Sequence[str], threshold: float, others: Sequence[str] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair of texts whose shingle sets have a Jaccard similarity of `threshold` or more: index arrays [pairs].

    The pairs are of two different `texts`, or of one of them and one of `others` where those are given. Exact:
    intersections are counted by a sparse product, a block of rows at a time, so that memory stays bounded.
    """
    from scipy import sparse  # 0.2 s, and not needed when the items are cached

    vocabulary: dict[tuple[str, ...], int] = {}
    first = _members(texts, vocabulary)
    second = first if others is None else _members(others, vocabulary)
    has, transposed = (
        sparse.csr_matrix((np.ones(len(indices), np.int32), indices, ends), shape=(len(ends) - 1, len(vocabulary)))
        for indices, ends in (first, second)
    )
    sizes, other_sizes = np.diff(has.indptr), np.diff(transposed.indptr)
    transposed = transposed.T.tocsr()
    left: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    right: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for start in range(0, len(texts), _BLOCK):
        common = (has[start : start + _BLOCK] @ transposed).tocoo()
        rows, columns = common.row.astype(np.int64) + start, common.col.astype(np.int64)
        jaccard = common.data / (sizes[rows] + other_sizes[columns] - common.data)
        keep = (jaccard >= threshold - 1e-12) & ((rows < columns) | (others is not None))
        left.append(rows[keep])
        right.append(columns[keep])
    return np.concatenate(left), np.concatenate(right)


def _members(
    texts: Sequence[str], vocabulary: dict[tuple[str, ...], int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids of the texts' shingles, text after text, and the offsets of the texts, beginning with 0."""
    indices: list[int] = []
    ends = [0]
    for text in texts:
        indices.extend(vocabulary.setdefault(shingle, len(vocabulary)) for shingle in sorted(shingles(text)))
        ends.append(len(indices))
    return np.array(indices, np.int64), np.array(ends, np.int64)


def components(nodes: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """[nodes] the number of each node's connected component in the graph of these edges."""
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    graph = sparse.coo_matrix((np.ones(len(left), np.int8), (left, right)), shape=(nodes, nodes))
    _, labels = connected_components(graph, directed=False)
    return np.asarray(labels, np.int64)


def group_items(
    items: int,
    ties: Sequence[tuple[int, str]],
    likenesses: Sequence[Sequence[tuple[int, str]]],
    threshold: float,
) -> NDArray[np.int64]:
    """[items] the number of each item's group.

    Args:
        items: how many items there are.
        ties: (item, value) pairs: items with an equal value belong together.
        likenesses: lists of (item, comparable text) pairs: items whose texts in one list are similar belong together.
        threshold: of the similarity.
    """
    node_of: dict[tuple[int, str], int] = {}
    left: list[int] = []
    right: list[int] = []
    for kind, pairs in enumerate((ties, *likenesses)):
        for item, value in pairs:
            left.append(item)
            right.append(node_of.setdefault((kind, value), items + len(node_of)))
    edges_left, edges_right = [np.array(left, np.int64)], [np.array(right, np.int64)]
    for kind in range(1, 1 + len(likenesses)):
        texts = [(value, node) for (own, value), node in node_of.items() if own == kind]
        first, second = similar_pairs([value for value, _ in texts], threshold)
        numbers = np.array([node for _, node in texts], np.int64)
        edges_left.append(numbers[first])
        edges_right.append(numbers[second])
    return components(items + len(node_of), np.concatenate(edges_left), np.concatenate(edges_right))[:items]

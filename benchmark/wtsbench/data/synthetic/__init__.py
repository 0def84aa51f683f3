"""Tasks and text made by wtsbench itself: nothing to download, and the same on every machine."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from wtsbench.data.synthetic import legal, safety, talk, toxicity
from wtsbench.data.synthetic.draw import Draw, RareDraw
from wtsbench.errors import SpecError

GENERATORS: dict[str, Callable[[Draw], dict[str, str]]] = {
    "safety-mini": safety.item,
    "legal-mini": legal.item,
    "toxicity-mini": toxicity.item,
    "talk-mini": talk.item,
}
"""Name to a function that draws one item. Neither changes once released: a new version is a new name."""
RARE = {"safety-mini-rare": "safety-mini", "legal-mini-rare": "legal-mini"}
"""Name to the generator whose items it draws in the wordings that are rare there: for tests out of distribution."""

_LEGAL_SHARE = 0.5
"""Of the unlabelled pages; those of the legal task need more reading."""


def generate(generator: str, *, items: int, seed: int) -> list[dict[str, Any]]:
    """`items` different rows of a generator, in the order they were drawn: the same for the same seed, everywhere.

    Raises:
        SpecError: there is no such generator, or it has fewer different rows.
    """
    item = GENERATORS.get(RARE.get(generator, generator))
    if item is None:
        available = ", ".join((*GENERATORS, *RARE))
        raise SpecError(f"no generator is called {generator!r}", remedy=f"there are {available}.")
    draw = (RareDraw if generator in RARE else Draw)(seed, generator)
    rows = dict[tuple[str, ...], dict[str, Any]]()
    for _ in range(20 * items):
        if len(rows) == items:
            break
        row = item(draw)
        rows.setdefault(tuple(row.values()), row)
    if len(rows) < items:
        raise SpecError(f"generator {generator} has not {items} different rows", remedy="ask for fewer items.")
    return list(rows.values())


def documents(seed: int) -> Iterator[str]:
    """Endless pages in the language of the tasks, for pretraining; nothing in them tells the label of an item."""
    draw = Draw(seed, "documents")
    while True:
        yield (legal if draw.chance(_LEGAL_SHARE) else safety).document(draw)


def text_digest(texts: Iterable[str]) -> str:
    """SHA-256 over texts, in order."""
    hasher = hashlib.sha256()
    for text in texts:
        hasher.update(text.encode() + b"\n")
    return hasher.hexdigest()

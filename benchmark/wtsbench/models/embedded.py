"""The recipes of the embedded models, as data; `wtsbench.trial.nano` builds the models."""

from wtsbench.errors import ModelError
from wtsbench.spec.frozen import Frozen
from wtsbench.spec.identity import digest

RECIPE_VERSION = 1
"""Raised when a change of `wtsbench.trial.nano` changes the weights."""


class Corpus(Frozen):
    """The unlabelled pages that all embedded models read, and the vocabulary learned from them."""

    seed: int = 0
    pages: int = 16_000
    sha256: str
    """Digest of the pages in order, so that a change of their generators changes the recipe."""
    vocabulary: int = 1024
    """Tokens of the byte-level BPE; with bytes as a fallback, so that it can write every text."""
    tokenizer_pages: int = 6_000
    """Number of first pages that the vocabulary is learned from."""


class Recipe(Frozen):
    """An embedded model: a causal language model of the Llama type, its size and its pretraining."""

    name: str
    width: int
    layers: int
    heads: int
    positions: int = 512
    tokens: int
    """Tokens read in pretraining."""
    batch_size: int = 16
    """Pages per step."""
    learning_rate: float
    initial_scale: float = 0.1
    """Standard deviation of the initial weights."""
    seed: int = 0
    corpus: Corpus = Corpus(sha256="28b43ec29d1de923f0f3fc5cfd44a9dd0cca9bb0c83e1ad8d26caaa806cba4b4")

    @property
    def hidden(self) -> int:
        """Width of the feed-forward layers."""
        return 2 * self.width

    @property
    def parameters(self) -> int:
        """Number of weights: tied embeddings; attention, gated feed-forward and two norms per layer; a last norm."""
        layer = 4 * self.width**2 + 3 * self.width * self.hidden + 2 * self.width
        return self.corpus.vocabulary * self.width + self.layers * layer + self.width


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="nano-1", width=24, layers=1, heads=2, tokens=160_000, learning_rate=5e-3),
        Recipe(name="nano-2", width=48, layers=2, heads=3, tokens=200_000, learning_rate=4e-3),
        Recipe(name="nano-3", width=64, layers=2, heads=4, tokens=360_000, learning_rate=3e-3),
    )
}
"""The embedded models, smallest first."""


def recipe(name: str) -> Recipe:
    """The recipe of an embedded model.

    Raises:
        ModelError: there is no such model.
    """
    if name not in RECIPES:
        raise ModelError(f"no embedded model is called {name!r}", remedy=f"there are {', '.join(RECIPES)}.")
    return RECIPES[name]


def recipe_digest(name: str) -> str:
    """The revision of an embedded model: the digest of everything that decides its weights.

    Raises:
        ModelError: there is no such model.
    """
    return digest({"version": RECIPE_VERSION, "recipe": recipe(name).model_dump(mode="json")})

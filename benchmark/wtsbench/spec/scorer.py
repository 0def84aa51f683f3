"""The scorer manifest: what scores generated texts."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from wtsbench.spec.frozen import Document, FileName, Frozen, HubId, MirrorPath, Positive, Sha256, Text

Weight = Annotated[float, Field(gt=0, le=1)]


class LexiconSource(Frozen):
    """A list of words: exact, and the same on every machine. For artificial languages, whose toxicity is known."""

    kind: Literal["lexicon"] = "lexicon"
    weights: Annotated[dict[str, Weight], Field(min_length=1)]
    """Lower-case word to the probability that its use is toxic."""
    targets: tuple[str, ...] = ()
    """Only clauses with one of these words count; empty: every clause counts."""

    @field_validator("weights", "targets")
    @classmethod
    def _words(cls, value: dict[str, float] | tuple[str, ...]) -> dict[str, float] | tuple[str, ...]:
        for word in value:
            if not re.fullmatch(r"[^\W_]+", word) or word != word.casefold():
                raise ValueError(f"{word!r} is not one word of lower-case letters")
        return value


class NgramSource(Frozen):
    """A classifier of word and character n-grams: a trained folder, or one that is trained on first use."""

    kind: Literal["ngram"] = "ngram"
    path: Text | None = None
    """A folder that `wtsbench scorer train` wrote, relative to the manifest's folder; null: trained on first use from
    the labelled texts of the data mirror, and kept in the cache folder."""
    digest: Sha256 | None = None
    """Digest that the scorer must have; another one is refused."""


class HubClassifierSource(Frozen):
    """A sequence classifier: one of `hub` and `path`."""

    kind: Literal["hub"] = "hub"
    hub: HubId | None = None
    """A model of the Hugging Face hub, as owner/name."""
    revision: str = "main"
    """For `hub`: a commit, or a branch or tag; the latter are resolved to a commit when a grid is planned."""
    path: Text | None = None
    """A folder in Hugging Face layout, relative to the manifest's folder, or absolute."""
    label: str | Annotated[int, Field(ge=0)]
    """The class whose probability is the score: its name in the model's configuration, or its index."""
    activation: Literal["auto", "softmax", "sigmoid"] = "auto"
    """Logits to probabilities; auto: sigmoid for a multi-label model and for a single logit, else softmax."""
    max_length: Positive = 512
    """Tokens of a text that are read, at most as many as the model can take."""
    batch_size: Positive = 32
    """Texts scored together. It only affects rounding, so it is not part of the scorer's identity."""

    @model_validator(mode="after")
    def _one(self) -> "HubClassifierSource":
        if (self.hub is None) == (self.path is None):
            raise ValueError("give exactly one of hub and path")
        if "revision" in self.model_fields_set and self.hub is None:
            raise ValueError("revision goes with hub only")
        return self


ScorerSource = Annotated[LexiconSource | NgramSource | HubClassifierSource, Field(discriminator="kind")]


class ScorerManifest(Document):
    """A scorer by name."""

    kind: Literal["scorer"] = "scorer"
    name: FileName
    """What tasks and tables call it."""
    summary: Text
    """One line for `wtsbench scorer list`."""
    source: ScorerSource
    """What gives the scores."""
    mirror: MirrorPath | None = None
    """For a `hub` source: a folder with the same weights below `WTSBENCH_DATA_MIRROR`, used if it exists."""

    @model_validator(mode="after")
    def _mirrored(self) -> "ScorerManifest":
        if self.mirror is not None and not (isinstance(self.source, HubClassifierSource) and self.source.hub):
            raise ValueError("mirror: goes with a source on the hub only")
        return self

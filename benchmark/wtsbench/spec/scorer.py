"""The scorer manifest: what scores generated texts."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from wtsbench.spec.frozen import Frozen
from wtsbench.spec.model import HubId

ScorerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Weight = Annotated[float, Field(gt=0, le=1)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class LexiconSource(Frozen):
    """A list of words: exact, and the same on every machine. For artificial languages, whose toxicity is known."""

    kind: Literal["lexicon"] = "lexicon"
    weights: Annotated[dict[str, Weight], Field(min_length=1)]
    """Lower-case word to the probability that its use is toxic."""
    targets: tuple[str, ...] = ()
    """Only clauses with one of these words count; empty: every clause counts."""

    @field_validator("weights")
    @classmethod
    def _words(cls, value: dict[str, float]) -> dict[str, float]:
        for word in value:
            _check_word(word)
        return value

    @field_validator("targets")
    @classmethod
    def _target_words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            _check_word(word)
        return value


def _check_word(word: str) -> None:
    if not re.fullmatch(r"[^\W_]+", word) or word != word.casefold():
        raise ValueError(f"{word!r} is not one word of lower-case letters")


class NgramSource(Frozen):
    """A classifier of word and character n-grams: a trained folder, or one that is trained on first use."""

    kind: Literal["ngram"] = "ngram"
    path: Annotated[str, Field(min_length=1)] | None = None
    """A folder that `wtsbench scorer train` wrote, relative to the manifest's folder; null: trained on first use from
    the labelled texts of the data mirror, and kept in the cache folder."""
    digest: Digest | None = None
    """Digest that the scorer must have; another one is refused."""


class HubClassifierSource(Frozen):
    """A sequence classifier: one of `hub` and `path`."""

    kind: Literal["hub"] = "hub"
    hub: HubId | None = None
    """A model of the Hugging Face hub, as owner/name."""
    revision: str = "main"
    """For `hub`: a commit, or a branch or tag; the latter are resolved to a commit when a grid is planned."""
    path: Annotated[str, Field(min_length=1)] | None = None
    """A folder in Hugging Face layout, relative to the manifest's folder, or absolute."""
    label: str | Annotated[int, Field(ge=0)]
    """The class whose probability is the score: its name in the model's configuration, or its index."""
    activation: Literal["auto", "softmax", "sigmoid"] = "auto"
    """Logits to probabilities; auto: sigmoid for a multi-label model and for a single logit, else softmax."""
    max_length: Annotated[int, Field(ge=1)] = 512
    """Tokens of a text that are read, at most as many as the model can take."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Texts scored together. It only affects rounding, so it is not part of the scorer's identity."""

    @model_validator(mode="after")
    def _one(self) -> "HubClassifierSource":
        if (self.hub is None) == (self.path is None):
            raise ValueError("give exactly one of hub and path")
        if "revision" in self.model_fields_set and self.hub is None:
            raise ValueError("revision goes with hub only")
        return self


ScorerSource = Annotated[LexiconSource | NgramSource | HubClassifierSource, Field(discriminator="kind")]


class ScorerManifest(Frozen):
    """A scorer by name."""

    api_version: Annotated[Literal["wtsbench/v1"], Field(alias="apiVersion")] = "wtsbench/v1"
    """The form of the file."""
    kind: Literal["scorer"] = "scorer"
    name: ScorerName
    """What tasks and tables call it."""
    summary: Annotated[str, Field(min_length=1)]
    """One line for `wtsbench scorer list`."""
    source: ScorerSource
    """What gives the scores."""
    mirror: Annotated[str, Field(min_length=1)] | None = None
    """For a `hub` source: a folder with the same weights below `WTSBENCH_DATA_MIRROR`, used if it exists."""

    @field_validator("mirror")
    @classmethod
    def _below(cls, value: Any) -> Any:
        if value is not None and (PurePosixPath(value).is_absolute() or ".." in PurePosixPath(value).parts):
            raise ValueError(f"{value!r} must be below the mirror folder")
        return value

    @model_validator(mode="after")
    def _mirrored(self) -> "ScorerManifest":
        if self.mirror is not None and not (isinstance(self.source, HubClassifierSource) and self.source.hub):
            raise ValueError("mirror: goes with a source on the hub only")
        return self

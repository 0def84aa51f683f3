"""The model manifest: where a model's weights are, its family and size, and its training settings.

A weak supervisor need not be a model that wtsbench trains: a manifest can also name a file of labels, or a prompted
model behind an endpoint.
"""

import string
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from wtsbench.spec.frozen import Document, FileName, Frozen, HubId, MirrorPath, Positive, Text
from wtsbench.spec.source import FileFormat, LabelValues, format_of
from wtsbench.spec.training import TrainingOverride

_PLACES = ("embedded", "hub", "path", "labels", "endpoint")


class LabelFile(Frozen):
    """Labels from elsewhere, of annotators or another model: one row per item and annotator."""

    path: Text
    """The file, relative to the manifest's folder, or absolute."""
    format: FileFormat | None = None
    """Null takes it from the file's name."""
    item_id: Text | None = None
    """Column with wtsbench's item ids; either this or `text`."""
    text: Text | None = None
    """Column with the items' texts; case, punctuation and white space need not agree."""
    label: Text | None = None
    """Column with the label."""
    values: LabelValues = Field(default_factory=dict)
    """The task's class for each value of the label column; empty if the column holds class names."""
    probabilities: Text | LabelValues | None = None
    """In place of the label: a mapping from class to the column of its probability; or one column whose values are
    mappings from class to probability, or lists."""
    order: tuple[Text, ...] = ()
    """The task's classes in the order of such a list."""
    annotator: Text | None = None
    """Column that says who labelled; an item's distribution is the mean over its annotators."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read."""
        shares = self.probabilities.values() if isinstance(self.probabilities, dict) else (self.probabilities,)
        named = (self.item_id, self.text, self.label, self.annotator, *shares)
        return tuple(dict.fromkeys(name for name in named if name is not None))

    @model_validator(mode="after")
    def _whole(self) -> "LabelFile":
        if (self.item_id is None) == (self.text is None):
            raise ValueError("give exactly one of item_id and text")
        if (self.label is None) == (self.probabilities is None):
            raise ValueError("give exactly one of label and probabilities")
        if self.values and self.label is None:
            raise ValueError("values goes with label only")
        if self.order and not isinstance(self.probabilities, str):
            raise ValueError("order: goes with one column of probabilities only")
        if self.format is None and format_of(self.path) is None:
            raise ValueError(f"{self.path!r} does not tell its format; give format: csv, tsv, jsonl or parquet")
        return self


class Endpoint(Frozen):
    """A prompted model behind an endpoint that speaks OpenAI's chat completions."""

    url: Text
    """Up to the version, such as http://localhost:8000/v1; `/chat/completions` is added."""
    model: Text
    """The model's name at the endpoint."""
    prompt: Text
    """The user's message, with the item's text at `{text}`. A literal brace is written twice."""
    system: Text | None = None
    """The system's message."""
    answers: Annotated[LabelValues, Field(min_length=2)]
    """The word to answer with for each class of the task."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Of its sampling; at 0 it answers the likeliest."""
    max_tokens: Positive = 8
    """Tokens of an answer at most."""
    logprobs: bool = False
    """Also request the likeliest first tokens and take probabilities from them; otherwise labels are hard."""
    top_logprobs: Annotated[int, Field(ge=1, le=20)] = 20
    """How many tokens to request."""
    key_env: Text | None = None
    """Environment variable with the key. Neither it nor the key is recorded."""
    key_file: Text | None = None
    """File with the key, relative to the manifest's folder, or absolute."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    """Requests at the same time."""
    retries: Annotated[int, Field(ge=0, le=100)] = 6
    """Further tries of a request that was rate-limited or failed in the network or at the server."""
    timeout: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """Seconds for a complete answer, of at most 8 MiB."""

    @field_validator("url")
    @classmethod
    def _plain(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{value!r} is not an http or https address")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError("an address with a user, a key or a query would be recorded; give the key by key_file")
        return value.rstrip("/")

    @field_validator("prompt")
    @classmethod
    def _with_text(cls, value: str) -> str:
        try:
            fields = [name for _, name, _, _ in string.Formatter().parse(value) if name is not None]
        except ValueError as error:
            raise ValueError(f"{error}; write a literal brace twice") from error
        if not fields or set(fields) != {"text"}:
            raise ValueError("must have {text} where the item's text goes, and no other field in braces")
        return value

    @model_validator(mode="after")
    def _whole(self) -> "Endpoint":
        words = [word.strip().casefold() for word in self.answers.values()]
        if len(set(words)) < len(words) or not all(words):
            raise ValueError("answers: each class needs a word of its own")
        if self.key_env is not None and self.key_file is not None:
            raise ValueError("give key_env or key_file, not both")
        return self


class ModelSource(Frozen):
    """Where the weights, or the labels, come from: one of `embedded`, `hub`, `path`, `labels` and `endpoint`."""

    embedded: str | None = None
    """A model that wtsbench builds itself, on first use."""
    hub: HubId | None = None
    """A model of the Hugging Face hub, as owner/name."""
    revision: str = "main"
    """For `hub`: a commit, or a branch or tag; the latter are resolved to a commit when a grid is planned."""
    path: Text | None = None
    """A folder in Hugging Face layout, relative to the manifest's folder, or absolute."""
    labels: LabelFile | None = None
    """A file of labels: a weak supervisor that is not trained."""
    endpoint: Endpoint | None = None
    """A prompted model elsewhere: a weak supervisor that is not trained."""

    @model_validator(mode="after")
    def _one(self) -> "ModelSource":
        places = [name for name in _PLACES if getattr(self, name) is not None]
        if len(places) != 1:
            raise ValueError(f"give exactly one of {', '.join(_PLACES[:-1])} and {_PLACES[-1]}")
        if "revision" in self.model_fields_set and self.hub is None:
            raise ValueError("revision goes with hub only")
        return self


class ModelManifest(Document):
    """A model by name."""

    kind: Literal["model"] = "model"
    name: FileName
    """What grids and tables call it."""
    summary: Text
    """One line for `wtsbench models`."""
    family: str | None = None
    """Models of one family are ordered by `parameters`."""
    source: ModelSource | None = None
    """Where the model comes from; null if it is in a mirror folder only."""
    mirror: MirrorPath | None = None
    """A folder with the same weights below `WTSBENCH_DATA_MIRROR`, used instead of the source if it exists."""
    parameters: Positive | None = None
    """Number of weights (approximate if the summary says so). Orders a family; used to estimate memory needs."""
    layers: Positive | None = None
    """Number of layers; used to estimate memory needs."""
    width: Positive | None = None
    """Hidden size; used to estimate memory needs."""
    training: TrainingOverride = TrainingOverride()
    """Training settings for this model: they override the defaults, and the grid's override them."""

    @model_validator(mode="after")
    def _somewhere(self) -> "ModelManifest":
        if self.source is None and self.mirror is None:
            raise ValueError("source: say where the weights are: embedded, hub or path; or labels or endpoint")
        return self

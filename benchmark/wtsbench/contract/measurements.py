"""What a trial says of itself beside its predictions: where it ran, on what, and how its training went.

A trial writes it into `result.json`; its supervisor checks it and stores it as JSON in `trials.measurements`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from wtsbench.spec.failure import Failure

_Count = Annotated[int, Field(ge=0)]


class Measurements(BaseModel):
    """What was measured. A field that was not set is absent from the JSON; null says that it has no value.

    What trials of other versions say beside is kept as it is.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    device: str | None = None
    """`cpu` or `cuda`."""
    device_name: str | None = None
    """The processor or GPU, as it calls itself."""
    dtype: str | None = None
    """Numbers that the model computed with, such as `bfloat16`."""
    threads: Annotated[_Count, Field(lt=2**31)] | None = None
    """Threads on the processor."""
    batch_size: _Count | None = None
    """Items in a step of training."""
    python: str | None = None
    """Version of Python; the next three are those of libraries."""
    torch: str | None = None
    transformers: str | None = None
    numpy: str | None = None

    weights_sha256: str | None = None
    """Digest of the weights that the trial began with."""
    reference_sha256: str | None = None
    """The same of the model that measures fluency."""
    parameters: _Count | None = None
    """Numbers in the model."""
    trained_parameters: _Count | None = None
    """Those of them that training changed."""
    max_length: _Count | None = None
    """Tokens that an item may have; longer ones are cut."""

    steps: _Count | None = None
    """Optimisation steps."""
    train_items: _Count | None = None
    """Items of all fits together, each counted once a fit."""
    train_tokens: _Count | None = None
    """Tokens seen in training, padding not counted."""
    padding_share: float | None = None
    """Share of padding among the tokens computed on, 0 to 1; null where nothing was trained."""
    initial_loss: float | None = None
    """Training loss of the first point of the curve, in nats; null where nothing was trained."""
    final_loss: float | None = None
    """The same of the last point."""
    late_fall: float | None = None
    """Of how far the training loss fell in the last fit, the share that came in the last fifth of its steps: about 0
    where training had converged, .24 on a straight line; null where it did not fall, or had too few steps to tell."""
    validation_accuracy: float | None = None
    """Share of validation items, 0 to 1, whose most probable class is the label that the role may see; null: none."""
    votes: list[float] | None = None
    """Of weak supervisors that vote: the weight of each round."""
    wrong_labels: _Count | None = None
    """Of the control `random_labels`: how many labels were made wrong."""
    written_tokens: _Count | None = None
    """Tokens that were generated."""
    seconds: dict[str, float] | None = None
    """Seconds by phase: `load`, `train`, `predict` or `write`, `reference`."""
    peak_memory_bytes: _Count | None = None
    """Most memory of the device, or of the process without one, in bytes."""

    scorer: dict[str, Any] | None = None
    """Name and identity of what scored the texts; the supervisor adds it."""
    supervisor: dict[str, Any] | None = None
    """Statistics of labels that were not made by wtsbench; see `models.external.predict`."""

    @classmethod
    def together(cls, parts: Iterable[Measurements]) -> Self:
        """All that the parts say, of later ones what several say."""
        return cls.model_validate({name: value for part in parts for name, value in part.stored().items()})

    @classmethod
    def of_stored(cls, text: str) -> Self | None:
        """Those of a row of `trials`; None if they cannot be read: a store takes whatever its clients send."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None

    def stored(self) -> dict[str, Any]:
        """The fields that were set, and what other versions say beside."""
        return self.model_dump(exclude_unset=True)


class TrialResult(BaseModel):
    """A trial's last word, `result.json`."""

    model_config = ConfigDict(frozen=True)

    status: Literal["done", "failed"]
    last_sequence: int = 0
    """Number of its last record; 0 where it wrote none."""
    failure: Failure | None = None
    measurements: Annotated[Measurements, BeforeValidator(lambda said: said or {})] = Measurements()

    def text(self) -> str:
        """The content of the file."""
        said = self.model_dump(mode="json", exclude={"measurements"})
        return json.dumps(said | {"measurements": self.measurements.stored()}, sort_keys=True, indent=2)

"""Training settings, with the paper's values as the one source of defaults."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wtsbench.spec.frozen import Frozen, Positive, Text, described_by

Epochs = Annotated[float, Field(gt=0, le=1000)]
Rate = Annotated[float, Field(gt=0, le=10)]
Share = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0)]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Finetune = Literal["full", "lora", "linear_probe"]
Targets = Annotated[tuple[Text, ...], Field(min_length=1)]


class Training(Frozen):
    """How every trial of a grid optimises (AdamW, linear warm-up and decay; defaults of arXiv 2410.12621)."""

    epochs: Epochs = 3
    """Passes over the items that are learned from; a fraction is part of one."""
    batch_size: Positive = 16
    """Items per optimiser step."""
    micro_batch_size: Positive | None = None
    """Items per forward and backward pass, to save memory: loss and step are still those of the whole batch, at the
    cost of one more forward pass. Null takes the whole batch."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass instead of storing them: less memory, about a third more time."""
    finetune: Finetune = "full"
    """What is trained: all weights; adapters of low rank (LoRA, arXiv 2106.09685) and the head; or the head alone, on
    the frozen model's activations."""
    lora_rank: Positive = 8
    """Rank of the adapters of `finetune: lora`."""
    lora_alpha: Annotated[float, Field(gt=0)] = 16
    """The adapters' product is scaled by `lora_alpha / lora_rank`."""
    lora_dropout: Share = 0.0
    """Dropout on the adapters' inputs."""
    lora_targets: Targets | None = None
    """The linear layers that get an adapter, by the last part of their names (`q_proj`); null takes all of the body."""
    learning_rate: Rate = 5e-5
    """Peak rate of AdamW, reached after the warm-up."""
    warmup: Share = 0.1
    """Share of the steps over which the rate rises linearly from 0."""
    weight_decay: NonNegative = 0.01
    """Of AdamW, on all weights but biases and norms."""
    max_gradient_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients longer than this are cut to it."""
    max_length: Positive = 256
    """Tokens per item; longer items are truncated, never dropped."""
    precision: Precision = "auto"
    """`auto` follows the hardware: bfloat16 on GPUs that have it, else float32."""
    eval_batch_size: Positive = 64
    """Items per forward pass when predicting."""


class TrainingOverride(Frozen):
    """Some of the training settings; a field that is not given keeps its value."""

    model_config = ConfigDict(json_schema_extra=described_by(Training))

    epochs: Epochs | None = None
    batch_size: Positive | None = None
    micro_batch_size: Positive | None = None
    gradient_checkpointing: bool | None = None
    finetune: Finetune | None = None
    lora_rank: Positive | None = None
    lora_alpha: Annotated[float, Field(gt=0)] | None = None
    lora_dropout: Share | None = None
    lora_targets: Targets | None = None
    learning_rate: Rate | None = None
    warmup: Share | None = None
    weight_decay: NonNegative | None = None
    max_gradient_norm: Annotated[float, Field(gt=0)] | None = None
    max_length: Positive | None = None
    precision: Precision | None = None
    eval_batch_size: Positive | None = None

    def over(self, base: Training) -> Training:
        """`base` with the fields given here in place of its own."""
        return base.model_copy(update=self.model_dump(exclude_none=True, include=set(Training.model_fields)))


class GridTraining(TrainingOverride):
    """A grid's training settings: they override the model manifest's, which override the defaults."""

    models: dict[str, TrainingOverride] = Field(default_factory=dict)
    """Settings for single models of the grid, by name; they override everything else."""
    tasks: dict[str, TrainingOverride] = Field(default_factory=dict)
    """Settings for single tasks of the grid, by name; they override the grid's own."""

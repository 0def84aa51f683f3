"""Checks that a trial's model can do what is asked of it, made in planning, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator

from wtsbench.spec.trial import Role, TrialSpec
from wtsbench.strategies import registry


def impossible(spec: TrialSpec, model: str, task: str, writes: bool | None) -> Iterator[tuple[str, str]]:
    """Reasons why this trial is impossible, each with its remedy.

    Args:
        spec: the trial; its seed and parents do not matter.
        model: as the grid names it.
        task: as the grid names it.
        writes: whether the model continues texts; None if unknown.
    """
    generates = spec.form == "generation"
    if not spec.model.trained and (spec.recipe is not None or generates):
        why = "it writes no texts" if generates else "it cannot be trained anew"
        yield (
            f"{model} is a source of labels: {why}",
            "exclude the strategies and tasks that need a weak model of weights.",
        )
    if generates and spec.finetune == "linear_probe":
        yield (
            f"task {task}, model {model}: finetune: linear_probe trains a classification head, and a generative "
            "task has none",
            f"take full or lora for it: `training.tasks: {{{task}: {{finetune: full}}}}`.",
        )
    if generates and spec.generation is not None and spec.generation.max_new_tokens >= spec.training.max_length:
        yield (
            f"task {task}, model {model}: {spec.generation.max_new_tokens} new tokens leave no room for a prompt "
            f"within training.max_length, {spec.training.max_length} tokens",
            "lower generation.max_new_tokens, or raise training.max_length.",
        )
    if writes is not False:
        return
    if generates:
        in_pair = "weak" if spec.role is Role.WEAK else "strong"
        yield (
            f"task {task}: {model} is an encoder, and writes no texts",
            f"take a model that continues texts, or exclude {{task: {task}, {in_pair}: {model}}}.",
        )
    elif spec.strategy is not None:
        strategy, label = registry.resolve(spec.strategy), registry.short_label(spec.strategy)
        if strategy.language or strategy.asks:
            why = "no language model to be trained as one" if strategy.language else "answers no prompt"
            yield (
                f"strategy {label}: {model} is an encoder, and {why}",
                f"exclude {{strategy: {spec.strategy.name}, strong: {model}}}.",
            )
    elif spec.recipe is not None and spec.recipe.name == "zero_shot":
        yield (
            f"control zero_shot: {model} is an encoder, and answers no prompt",
            f"exclude {{strategy: zero_shot, strong: {model}}}.",
        )

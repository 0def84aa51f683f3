"""A trial of a generative task: to be read from top to bottom.

Weak supervisors and ceilings are finetuned on prompts with the task's continuations, students as their strategy makes
of what their parents wrote; the control `zero_shot` is not trained. Then all of them write:

    transfer      `samples_transfer` continuations a prompt; weak supervisors only, as nobody learns from the others
    validation    `samples_validation`
    test, ood     `samples`

Finetuned weights are given up before the reference model, which measures fluency, is loaded.
"""

from __future__ import annotations

import time

from wtsbench.contract.measurements import Measurements
from wtsbench.spec.trial import TRAIN_SPLIT, Role, Split
from wtsbench.strategies import registry
from wtsbench.strategies.decoding import ScoredTokens, decoding_of
from wtsbench.strategies.generative import GenerativeStrategy
from wtsbench.strategies.naive import Naive
from wtsbench.trial import records
from wtsbench.trial.attempt import Trial
from wtsbench.trial.demonstrations import ground_truth, supervision_of
from wtsbench.trial.drafts import Draft, reference_likelihood
from wtsbench.trial.folder import Progress, TrialInputError
from wtsbench.trial.language_model import load_language_model
from wtsbench.trial.text_tokens import load_text_tokenizer
from wtsbench.trial.writer import TrialWriter

ZERO_SHOT = "zero_shot"


def run(trial: Trial) -> None:
    """Load, train, write, and write the records."""
    spec, settings = trial.spec, trial.spec.drawn
    progress = Progress(trial.folder.progress)
    writer = TrialWriter(trial.folder, spec, trial.device, progress)
    trial.measured.append(
        Measurements(
            parameters=writer.parameters,
            trained_parameters=writer.trained_parameters,
            max_length=writer.tokenizer.context,
        )
    )
    decoding = decoding_of(spec.recipe) if spec.role is Role.WEAK else None
    tasks = [(split, settings.samples_of(split)) for split in trial.predicted]
    progress.expect(sum(writer.cost(trial.items[split], samples) for split, samples in tasks))
    learn(trial, writer)
    trial.measured.append(writer.curve.measured(writer.trained_items))
    records.write_curve(trial.outbox, trial.job, TRAIN_SPLIT[spec.role], writer.curve)

    drafts = {split: writer.write(trial.items[split], samples, decoding) for split, samples in tasks}
    if isinstance(decoding, ScoredTokens):
        writer.say_logprobs(drafts[Split.TRANSFER])
    seconds = dict(writer.seconds)
    trial.measured.append(Measurements(written_tokens=writer.written_tokens))
    del writer
    if spec.reference is not None:
        begun = time.monotonic()
        measure_fluency(trial, [draft for some in drafts.values() for draft in some], progress)
        seconds["reference"] = time.monotonic() - begun

    for split, some in drafts.items():
        records.write_generations(trial.outbox, trial.job, split.value, some)
    trial.measured.append(Measurements(seconds={name: round(value, 4) for name, value in seconds.items()}))


def learn(trial: Trial, writer: TrialWriter) -> None:
    """Train the model as the trial's role says."""
    spec = trial.spec
    if spec.role is Role.CONTROL:
        if spec.recipe is None or spec.recipe.name != ZERO_SHOT:
            name = None if spec.recipe is None else spec.recipe.name
            raise TrialInputError(f"generative tasks have no control {name!r}, only {ZERO_SHOT}")
        return
    if spec.role is Role.STUDENT:
        assert spec.strategy is not None, "a student has a strategy"
        strategy = registry.resolve(spec.strategy)
        if not isinstance(strategy, GenerativeStrategy):
            raise TrialInputError(f"strategy {strategy.name} is not for generative tasks")
        strategy.generate_run(writer, supervision_of(trial, strategy))
        return
    split = TRAIN_SPLIT[spec.role]
    writer.fit_sequences(ground_truth(trial.items[split], split), Naive(Naive.Parameters()))


def measure_fluency(trial: Trial, drafts: list[Draft], progress: Progress) -> None:
    """Fill in the likelihood of every continuation under the reference model."""
    training = trial.spec.training
    model = load_language_model(trial.folder.reference, trial.device)
    tokenizer = load_text_tokenizer(trial.folder.reference, training.max_length)
    reference_likelihood(
        drafts, model, tokenizer, batch_size=training.eval_batch_size, device=trial.device, progress=progress
    )

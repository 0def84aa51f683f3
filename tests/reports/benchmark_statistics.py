"""How long the statistics of a table take: `python tests/reports/benchmark_statistics.py [THREADS]`.

Prints seconds for 25 trials (5 configurations of 5 seeds) on 5,000 items with 10,000 resamples, by accuracy alone and
by all metrics of a classifier, and for 25 samples of 1,000 prompts. Not a test: machines differ.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

if len(sys.argv) > 1:
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = sys.argv[1]

import numpy as np

from wtsbench.metrics.classification import METRICS, Metric, Predicted, classification_metrics
from wtsbench.metrics.generation import GENERATION_METRICS, Samples
from wtsbench.reports.resampling import Block, Resampler
from wtsbench.reports.rows import RESAMPLES
from wtsbench.reports.statistics import difference, recovered, score

SEEDS, CONFIGURATIONS, ITEMS = 5, 5, 5_000


def blocks(metrics: Sequence[Metric[Any]], made: Sequence[Any]) -> list[Block]:
    """Features of every trial, summed once for all metrics that share them."""
    functions = list(dict.fromkeys(metric.features for metric in metrics))
    return [
        Block(
            features=np.stack([function(each) for each in made]),
            values=tuple(metric.value for metric in metrics if metric.features is function),
        )
        for function in functions
    ]


def timed(name: str, items: int, made: list[Block]) -> None:
    """Resample, then compute an interval for each configuration, each difference, and a PGR."""
    began = time.perf_counter()
    resampler = Resampler("benchmark", items)
    scores = [found for block in resampler.scores(made) for found in block]
    resampled = time.perf_counter() - began
    for found in scores:
        samples = [
            resampler.sample(found, range(start, start + SEEDS)) for start in range(0, CONFIGURATIONS * SEEDS, SEEDS)
        ]
        for place, one in enumerate(samples):
            score(one, 0, 1)
            for two in samples[:place]:
                difference(one, two, 0, 1)
    weak, student, ceiling = (resampler.sample(scores[0], range(start, start + SEEDS)) for start in (0, 5, 10))
    if difference(ceiling, weak, 0, 1).proven:
        recovered(weak, student, ceiling)
    whole = time.perf_counter() - began
    print(f"{name:<40} resampling {resampled:5.2f} s, with all intervals and tests {whole:5.2f} s")


def main() -> None:
    """Print the times."""
    chance = np.random.default_rng(0)
    labels = chance.integers(0, 2, ITEMS)
    made = []
    for trial in range(SEEDS * CONFIGURATIONS):
        right = chance.random(ITEMS) < 0.6 + 0.06 * (trial // SEEDS)
        probability = np.where(right == (labels == 1), 0.9, 0.1) * chance.uniform(0.9, 1.1, ITEMS)
        made.append(Predicted.of(labels, np.stack([1 - probability, probability], axis=-1)))
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{RESAMPLES:,} resamples of {SEEDS * CONFIGURATIONS} trials, {threads} threads")
    timed(f"{ITEMS:,} items, accuracy", ITEMS, blocks([METRICS["accuracy"]], made))
    every = list(classification_metrics(("no", "yes")).values())
    timed(f"{ITEMS:,} items, {len(every)} metrics", ITEMS, blocks(every, made))
    words, prompts = np.array(list("abcdefghij")), 1_000
    generated = []
    began = time.perf_counter()
    for _ in range(SEEDS * CONFIGURATIONS):
        texts = [[" ".join(row) for row in each] for each in words[chance.integers(0, 10, (prompts, 25, 20))]]
        generated.append(
            Samples(
                prompts=["a b c d e f g h"] * prompts,
                texts=texts,
                tokens=np.full((prompts, 25), 20),
                finished=np.ones((prompts, 25), dtype=bool),
                scores=chance.random((prompts, 25)),
                reference_nll=chance.random((prompts, 25)) * 60,
                reference_tokens=np.full((prompts, 25), 20.0),
            )
        )
    drawn = time.perf_counter()
    measured = blocks(list(GENERATION_METRICS.values()), generated)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(
        f"{'features of 625,000 texts':<40} {time.perf_counter() - drawn:5.2f} s (texts made in {drawn - began:.2f} s)"
    )
    timed(f"{prompts:,} prompts, {len(GENERATION_METRICS)} metrics", prompts, measured)


if __name__ == "__main__":
    main()

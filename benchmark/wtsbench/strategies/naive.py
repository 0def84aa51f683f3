"""`naive`: learn from the weak model's labels as if they were ground truth.

    loss = CE(f, w) = -sum_c w_c log f_c

w is the weak label distribution (or its argmax, one-hot, with `labels: hard`), f the student's distribution. Source:
the naive finetuning of Burns et al. 2023 (arXiv 2312.09390), section 4.

In generative tasks the weak model's continuations of the transfer prompts take the place of labels (arXiv 2410.12621):

    loss = - mean over continuation tokens t of log f(y_t | prompt, y_<t)
"""

from __future__ import annotations

from wtsbench.strategies.generative import GenerativeStrategy


class Naive(GenerativeStrategy):
    """Finetuning on the weak labels, or on the weak model's continuations, with all defaults of the two interfaces."""

    name = "naive"
    forms = ("classification", "generation")
    summary = "learn the weak labels, or the weak model's continuations, as if they were the truth"
    source = "Burns et al. 2023, arXiv 2312.09390"

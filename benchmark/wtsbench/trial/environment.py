"""Variables to set before numpy, torch and tokenizers are imported, alike in a plain process and in a fork server."""

import os


def prepare() -> None:
    """One thread for the libraries that would start pools of their own at import: torch alone computes.

    Threads must not exist where the fork server forks, and the number of threads of a matrix product can change its
    last bit.
    """
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

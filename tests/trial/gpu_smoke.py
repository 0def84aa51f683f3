"""One small trial of each form in bfloat16, trained, predicted and generated, with times and memory as JSON.

    python -m tests.trial.gpu_smoke [--device cuda|cpu] [--shape tiny|gpt2] [--out FILE]

Needs no pytest, network, engine or cluster: the first thing to run on a new GPU. Ends with 1 where a trial fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from wtsbench.trial import environment

environment.prepare()  # before torch is imported, as a trial's process does

import torch  # noqa: E402
import transformers  # noqa: E402

from tests.trial.folders import made_items, predictions_of, result_of, write_folder  # noqa: E402
from tests.trial.tiny import write_tiny_model  # noqa: E402
from tests.trial.writing import generations, made_prompts, write_generative  # noqa: E402
from wtsbench.spec.trial import TrialJob  # noqa: E402
from wtsbench.trial.run import run_folder  # noqa: E402

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {},
    "gpt2": {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024},
}
"""GPT-2's smallest size has 85 million weights without its vocabulary, which here is that of a few hundred words."""


def run(folder: Path, job: TrialJob) -> dict[str, Any]:
    """Run a trial folder here; what it measured, how long it took, and how many rows it says."""
    if job.gpus:
        torch.empty(0, device="cuda")  # the next line needs a device that was used
        torch.cuda.reset_peak_memory_stats()
    begun = time.monotonic()
    code = run_folder(folder)
    seconds = time.monotonic() - begun
    result = result_of(folder)
    said = predictions_of(folder, job) if job.spec.form == "classification" else generations(folder, job)
    return {
        "form": job.spec.form,
        "ok": code == 0,
        "failure": result["failure"],
        "seconds": round(seconds, 3),
        "rows": len(said),
        "measured": result["measurements"],
    }


def main(arguments: list[str]) -> int:
    """Print what was measured, or write it to a file; 0 where both trials ended well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--shape", choices=SHAPES, help="gpt2 on a GPU, else tiny")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no GPU here; --device cpu runs the same on the CPU", file=sys.stderr)
        return 2
    gpus, shape = float(given.device == "cuda"), given.shape or ("gpt2" if given.device == "cuda" else "tiny")
    how: dict[str, Any] = {"gpus": gpus, "precision": "bfloat16", "epochs": 1.0}
    with tempfile.TemporaryDirectory(prefix="wtsbench-smoke-") as scratch:
        work = Path(scratch)
        sizes: dict[str, Any] = SHAPES[shape]
        model = write_tiny_model(work / "model-folder", "gpt2", **sizes)
        trials = [
            run(work / "classes", write_folder(work / "classes", made_items(400), model, **how)),
            run(work / "texts", write_generative(work / "texts", made_prompts(64), model, reference=model, **how)),
        ]
    found = {
        "device": torch.cuda.get_device_name() if gpus else "cpu",
        "capability": torch.cuda.get_device_capability() if gpus else None,
        "shape": shape,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "transformers": transformers.__version__,
        "trials": trials,
    }
    text = json.dumps(found, indent=2) + "\n"
    if given.out is None:
        print(text, end="")
    else:
        given.out.write_text(text)
    return 0 if all(trial["ok"] for trial in trials) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""How fast continuations are written, against transformers' `generate` with one prompt at a time.

    python -m tests.performance.generation_speed MODEL_FOLDER PROMPTS_FILE [PROMPTS]

PROMPTS_FILE has a prompt a line. No test: speeds depend on the machine.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

from wtsbench.trial.device import Device
from wtsbench.trial.language_model import load_language_model
from wtsbench.trial.sampling import uniforms, write
from wtsbench.trial.text_tokens import load_text_tokenizer

SAMPLES, MOST, TOP_P = 25, 20, 0.9


def main(arguments: list[str]) -> int:
    """Print both speeds in tokens per second of this process, and their ratio."""
    folder, file, count = Path(arguments[0]), Path(arguments[1]), int([*arguments, "64"][2])
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    device = Device(torch_device=torch.device("cpu"), dtype=torch.float32, threads=1)
    model, tokenizer = load_language_model(folder, device), load_text_tokenizer(folder, 256)
    prompts = tokenizer.prompts(file.read_text().splitlines()[:count], MOST)
    randoms = [np.stack([uniforms(0, str(i), k, MOST) for k in range(SAMPLES)]) for i in range(len(prompts))]

    begun = time.process_time()
    written = write(
        [model],
        prompts,
        randoms,
        end_id=tokenizer.end_id,
        pad_id=tokenizer.pad_id,
        temperature=1.0,
        top_p=TOP_P,
        batch_size=64,
        device=device,
        advance=lambda count: None,
    )
    ours = sum(len(one.tokens) for some in written for one in some) / (time.process_time() - begun)

    torch.manual_seed(0)
    tokens = {"samples": 0, "single": 0}
    speeds = {}
    for name, times, copies in (("samples", 1, SAMPLES), ("single", SAMPLES, 1)):
        chosen = prompts if name == "samples" else prompts[: max(1, len(prompts) // 16)]
        begun = time.process_time()
        for prompt in chosen:
            for _ in range(times):
                found = model.model.generate(
                    torch.tensor([prompt]),
                    attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                    do_sample=True,
                    top_p=TOP_P,
                    top_k=0,
                    max_new_tokens=MOST,
                    num_return_sequences=copies,
                    pad_token_id=tokenizer.pad_id,
                    eos_token_id=tokenizer.end_id,
                )
                new = found[:, len(prompt) :]
                tokens[name] += int(((new == tokenizer.end_id).cumsum(dim=1) == 0).sum())
        speeds[name] = tokens[name] / (time.process_time() - begun)
    print(f"written here               {ours:10.0f} tokens/s")
    print(f"generate, 25 of one prompt {speeds['samples']:10.0f} tokens/s   ratio {ours / speeds['samples']:.1f}")
    print(f"generate, one by one       {speeds['single']:10.0f} tokens/s   ratio {ours / speeds['single']:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

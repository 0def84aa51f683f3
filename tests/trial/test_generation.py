"""Whole trials of a generative task in their folders, run in this process on tiny models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.trial.folders import records_of, result_of
from tests.trial.tiny import write_tiny_model
from tests.trial.writing import PARENT, SMALL, call, generations, made_prompts, write_generative, wrote
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.trial import Role, Split, TrialJob
from wtsbench.trial.run import run_folder

ITEMS = made_prompts()
OF_PARENT = {item: [wrote(" cake alpha"), wrote(" cake beta bomb")] for item, _, _, _ in ITEMS}


def texts(rows: list[dict[str, Any]]) -> dict[tuple[str, int], str]:
    """Texts by item and sample."""
    return {(row["item_id"], row["sample"]): row["text"] for row in rows}


def test_a_weak_supervisor_learns_to_continue_and_writes_for_every_split(tmp_path: Path, tiny_llama: Path) -> None:
    """A finetuned model starts with the word that all continuations start with, and mostly stops by itself."""
    job = write_generative(tmp_path, ITEMS, tiny_llama, epochs=20.0)
    assert run_folder(tmp_path) == 0, result_of(tmp_path)
    rows = generations(tmp_path, job)
    counted = {split: sum(row["split"] == split for row in rows) for split in ("transfer", "validation", "test")}
    assert counted == {"transfer": 32 * 3, "validation": 32 * 2, "test": 32 * 5}
    assert len({(row["split"], row["item_id"], row["sample"]) for row in rows}) == len(rows)
    assert np.mean([row["text"].startswith(" cake") for row in rows]) > 0.9
    assert np.mean([row["finished"] for row in rows]) > 0.5
    assert all(row["tokens"] == len(row["text"].split()) for row in rows)
    assert all(row["finished"] == (row["tokens"] < SMALL.max_new_tokens) for row in rows)
    assert all(row["logprobs"] is None and row["reference_nll"] is None for row in rows)
    measured = result_of(tmp_path)["measurements"]
    assert measured["train_items"] == 32
    assert measured["final_loss"] < measured["initial_loss"]
    assert measured["written_tokens"] == sum(row["tokens"] for row in rows)
    curve = records_of(tmp_path, job, "metrics")
    assert {(row["name"], row["split"]) for row in curve} == {("loss", "weak_train")}
    progress = json.loads((tmp_path / "scratch" / "progress.json").read_text())
    assert progress["done"] == progress["total"] > 0


def test_the_same_trial_writes_the_same_texts_again(tmp_path: Path, tiny_llama: Path) -> None:
    """Twice the same trial, twice the same texts; another seed writes others."""
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        job = write_generative(tmp_path / name, ITEMS, tiny_llama, seed=seed)
        assert run_folder(tmp_path / name) == 0
        found.append(texts(generations(tmp_path / name, job)))
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_a_ceiling_learns_from_transfer_and_writes_no_labels_for_it(tmp_path: Path, tiny_llama: Path) -> None:
    """Nobody learns from a ceiling, so that it writes for validation and test alone."""
    job = write_generative(tmp_path, ITEMS, tiny_llama, role=Role.CEILING)
    assert run_folder(tmp_path) == 0
    assert {row["split"] for row in generations(tmp_path, job)} == {"validation", "test"}
    assert {row["split"] for row in records_of(tmp_path, job, "metrics")} == {"transfer"}


def test_a_naive_student_learns_what_its_parent_wrote(tmp_path: Path, tiny_llama: Path) -> None:
    """The student writes the parent's words, the bad one included, and no others."""
    job = write_generative(
        tmp_path,
        ITEMS,
        tiny_llama,
        role=Role.STUDENT,
        strategy=call("naive"),
        parents={PARENT: OF_PARENT},
        epochs=10.0,
    )
    assert run_folder(tmp_path) == 0, result_of(tmp_path)
    assert result_of(tmp_path)["measurements"]["train_items"] == 64
    found = [row["text"] for row in generations(tmp_path, job, Split.TEST)]
    assert np.mean([text in (" cake alpha", " cake beta bomb") for text in found]) > 0.8
    assert {" cake alpha", " cake beta bomb"} <= set(found)


def test_a_zero_shot_control_is_not_trained(tmp_path: Path, tiny_llama: Path) -> None:
    """It writes with the pretrained weights, sees no continuation and has no training curve."""
    job = write_generative(
        tmp_path, ITEMS, tiny_llama, role=Role.CONTROL, recipe=StrategyCall(name="zero_shot"), generation=SMALL
    )
    assert run_folder(tmp_path) == 0
    assert {row["split"] for row in generations(tmp_path, job)} == {"validation", "test"}
    assert result_of(tmp_path)["measurements"]["steps"] == 0
    assert not records_of(tmp_path, job, "metrics")


@pytest.mark.parametrize("kind", ["gpt2", "openai-gpt"])
def test_other_architectures_write_too(tmp_path: Path, kind: str) -> None:
    """Learned positions, and an architecture that cannot keep what it has read."""
    model = write_tiny_model(tmp_path / "model-folder", kind)
    job = write_generative(tmp_path / "trial", ITEMS, model, epochs=20.0)
    assert run_folder(tmp_path / "trial") == 0, result_of(tmp_path / "trial")
    first = [row["text"].startswith(" cake") for row in generations(tmp_path / "trial", job)]
    assert np.mean(first) > 0.2  # of 313 words; by chance it would be 0.003


def test_an_encoder_cannot_write(tmp_path: Path) -> None:
    """The failure says that the model is of the wrong kind, not something about missing tensors."""
    model = write_tiny_model(tmp_path / "model-folder", "bert")
    write_generative(tmp_path / "trial", ITEMS, model)
    assert run_folder(tmp_path / "trial") == 1
    failure = result_of(tmp_path / "trial")["failure"]
    assert failure["failure_class"] == "trial_error"
    assert "encoder, and cannot write" in failure["message"]


def test_a_loss_that_is_no_number_is_divergence(tmp_path: Path, tiny_llama: Path) -> None:
    """Weights that have gone bad end the trial as `diverged`, with nothing written."""
    from safetensors.torch import load_file, save_file

    model = tmp_path / "broken"
    shutil.copytree(tiny_llama, model)
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * float("inf")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    for name, role, recipe in (("a", Role.WEAK, None), ("b", Role.CONTROL, StrategyCall(name="zero_shot"))):
        job = write_generative(tmp_path / name, ITEMS, model, role=role, recipe=recipe)
        assert run_folder(tmp_path / name) == 1
        assert result_of(tmp_path / name)["failure"]["failure_class"] == "diverged"
        assert not generations(tmp_path / name, job)


def test_a_prompt_of_the_parent_that_is_missing_is_an_error(tmp_path: Path, tiny_llama: Path) -> None:
    """A student with a parent that skipped prompts does not learn from the others in silence."""
    gap = next(item for item, split, _, _ in ITEMS if split is Split.TRANSFER)
    given = {item: [] if item == gap else some for item, some in OF_PARENT.items()}
    write_generative(tmp_path, ITEMS, tiny_llama, role=Role.STUDENT, strategy=call("naive"), parents={PARENT: given})
    assert run_folder(tmp_path) == 1
    assert "wrote nothing for 1 of 32 prompts" in result_of(tmp_path)["failure"]["message"]


def test_adapters_train_little_and_a_probe_is_refused(tmp_path: Path, tiny_llama: Path) -> None:
    """LoRA works as in classification, but with the pretrained head frozen; a linear probe has no head to train."""
    job = write_generative(tmp_path / "lora", ITEMS, tiny_llama, finetune="lora", epochs=20.0, learning_rate=3e-2)
    assert run_folder(tmp_path / "lora") == 0, result_of(tmp_path / "lora")
    measured = result_of(tmp_path / "lora")["measurements"]
    assert measured["trained_parameters"] < measured["parameters"] / 3
    assert measured["final_loss"] < measured["initial_loss"] * 0.7
    assert generations(tmp_path / "lora", job)
    write_generative(tmp_path / "probe", ITEMS, tiny_llama, finetune="linear_probe")
    assert run_folder(tmp_path / "probe") == 1
    assert "linear_probe" in result_of(tmp_path / "probe")["failure"]["message"]


def learner(folder: Path, model: Path, strategy: StrategyCall, written: dict[str, Any], **more: Any) -> TrialJob:
    """A student's folder with one parent."""
    return write_generative(
        folder, ITEMS, model, role=Role.STUDENT, strategy=strategy, parents={PARENT: written}, **more
    )


def test_a_filter_that_leaves_nothing_is_an_error(tmp_path: Path, tiny_llama: Path) -> None:
    """The failure says which strategy left nothing, in place of a student that learned nothing."""
    bad = {item: [wrote(" bomb"), wrote(" bomb bomb")] for item in OF_PARENT}
    learner(tmp_path, tiny_llama, call("generation_filter"), bad)
    assert run_folder(tmp_path) == 1
    assert "generation_filter leaves no continuation" in result_of(tmp_path)["failure"]["message"]


def test_empty_continuations_teach_the_end_and_nothing_else(tmp_path: Path, tiny_llama: Path) -> None:
    """A parent that wrote nothing makes a student that writes nothing; its texts have no likelihood."""
    empty = {item: [wrote("")] for item in OF_PARENT}
    job = learner(tmp_path, tiny_llama, call("naive"), empty, epochs=20.0, reference=tiny_llama)
    assert run_folder(tmp_path) == 0
    rows = generations(tmp_path, job)
    blank = [row for row in rows if not row["text"]]
    assert len(blank) > 0.9 * len(rows)
    assert all((row["tokens"], row["reference_tokens"], row["reference_nll"]) == (0, 0, None) for row in blank)


def test_preferences_make_a_student_less_toxic_than_naive(tmp_path: Path, tiny_llama: Path) -> None:
    """Where half of what the weak model wrote is bad, `dpo` and `best_of_n` write it far less than `naive`."""
    shares = {}
    for name in ("naive", "best_of_n", "dpo"):
        job = learner(tmp_path / name, tiny_llama, call(name), OF_PARENT, epochs=10.0)
        assert run_folder(tmp_path / name) == 0, result_of(tmp_path / name)
        found = generations(tmp_path / name, job, Split.TEST)
        shares[name] = np.mean(["bomb" in row["text"] for row in found])
    assert shares["naive"] > 0.3
    assert shares["best_of_n"] < 0.05
    assert shares["dpo"] < 0.05


def test_a_reference_model_measures_every_continuation(tmp_path: Path, tiny_llama: Path) -> None:
    """The likelihood is that of the text under the pretrained weights, recomputed with transformers alone."""
    job = write_generative(tmp_path, ITEMS, tiny_llama, reference=tiny_llama)
    assert run_folder(tmp_path) == 0
    rows = generations(tmp_path, job, Split.TEST)
    prompts = {item: prompt for item, _, prompt, _ in ITEMS}
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    for row in rows[:12]:
        given = tokenizer(prompts[row["item_id"]])["input_ids"]
        ids = tokenizer(prompts[row["item_id"]] + row["text"])["input_ids"]
        assert row["reference_tokens"] == len(ids) - len(given)
        if row["reference_tokens"]:
            with torch.no_grad():
                scores = model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
            by_hand = -sum(float(scores[t - 1, ids[t]]) for t in range(len(given), len(ids)))
            assert row["reference_nll"] == pytest.approx(by_hand, rel=1e-4)


def test_a_weak_supervisor_says_how_probable_its_words_were(tmp_path: Path, tiny_llama: Path) -> None:
    """Asked for it, and on transfer alone: one number a character and one for the end; the trial is else the same."""
    recipe = StrategyCall(name="scored_tokens")
    plain = write_generative(tmp_path / "plain", ITEMS, tiny_llama)
    asked = write_generative(tmp_path / "asked", ITEMS, tiny_llama, recipe=recipe)
    assert plain.trial_id != asked.trial_id
    assert run_folder(tmp_path / "plain") == run_folder(tmp_path / "asked") == 0
    assert texts(generations(tmp_path / "plain", plain)) == texts(generations(tmp_path / "asked", asked))
    gained = []
    for row in generations(tmp_path / "asked", asked):
        if row["split"] != "transfer":
            assert row["logprobs"] is None
            continue
        assert len(row["logprobs"]) == len(row["base_logprobs"]) == len(row["text"]) + row["finished"]
        gained.append(sum(row["logprobs"]) - sum(row["base_logprobs"]))
    assert np.mean(gained) > 1

    written: dict[str, list[dict[str, Any]]] = {}
    columns = ("text", "tokens", "logprobs", "base_logprobs")
    for row in generations(tmp_path / "asked", asked, Split.TRANSFER):
        written.setdefault(row["item_id"], []).append({name: row[name] for name in columns} | {"score": 0.0})
    for item in OF_PARENT:
        written.setdefault(item, [wrote(" cake")])
    job = learner(tmp_path / "wspo", tiny_llama, call("wspo", beta=1.0), written, epochs=10.0)
    assert run_folder(tmp_path / "wspo") == 0, result_of(tmp_path / "wspo")
    measured = result_of(tmp_path / "wspo")["measurements"]
    assert measured["final_loss"] < measured["initial_loss"] / 2
    shares = [
        np.mean([row["text"].startswith(" cake") for row in generations(folder, its, Split.TEST)])
        for folder, its in ((tmp_path / "asked", asked), (tmp_path / "wspo", job))
    ]
    assert shares[0] > 0.2
    assert shares[1] > shares[0] / 2  # the first of hundreds of words: by chance it would be 0.003


def test_contrast_writes_what_finetuning_taught(tmp_path: Path, tiny_llama: Path) -> None:
    """Against its pretrained self the weak model writes more of what it learned; without contrast the same texts."""
    found = {}
    for alpha, cut in ((None, None), (0.0, 0.0), (0.4, 0.1)):
        name = str(alpha)
        parameters = {"alpha": alpha, "plausibility": cut}
        recipe = None if alpha is None else StrategyCall(name="contrastive_decoding", parameters=parameters)
        job = write_generative(tmp_path / name, ITEMS, tiny_llama, recipe=recipe, epochs=5.0)
        assert run_folder(tmp_path / name) == 0, result_of(tmp_path / name)
        found[alpha] = texts(generations(tmp_path / name, job))
    assert found[None] == found[0.0]
    shares = {alpha: np.mean([text.startswith(" cake") for text in some.values()]) for alpha, some in found.items()}
    assert shares[0.4] > shares[0.0] + 0.1


def test_pieces_of_a_batch_train_as_the_whole(tmp_path: Path, tiny_llama: Path) -> None:
    """Micro-batches and checkpointing give the losses of the whole batch up to rounding."""
    losses = []
    for name, more in (("whole", {}), ("pieces", {"micro_batch_size": 3, "gradient_checkpointing": True})):
        settings: dict[str, Any] = {"learning_rate": 1e-3, "epochs": 2.0} | more
        learner(tmp_path / name, tiny_llama, call("dpo"), OF_PARENT, **settings)
        assert run_folder(tmp_path / name) == 0, result_of(tmp_path / name)
        measured = result_of(tmp_path / name)["measurements"]
        losses.append((measured["initial_loss"], measured["final_loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)

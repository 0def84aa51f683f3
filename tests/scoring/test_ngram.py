"""The n-gram scorer: its features, its training, its card, and the files it is kept in."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from tests.scoring.conftest import BAD, RECORDS, write_mirror
from wtsbench.errors import ScorerError
from wtsbench.scoring.evaluation import evaluate
from wtsbench.scoring.labelled import HELD_OUT, PERSPECTIVE_SCORED, Text, normalised, prepared, read
from wtsbench.scoring.ngram import NgramScorer, load
from wtsbench.scoring.resolve import resolve
from wtsbench.scoring.training import train, train_to
from wtsbench.settings import data_mirror, shipped

REAL = data_mirror() or shipped("manifests").parents[1] / "shared" / "data"


@pytest.fixture(scope="session")
def folder(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scorer trained on the constructed mirror, for reading."""
    out = tmp_path_factory.mktemp("trained") / "scorer"
    train_to(out, mirror, name="trained")
    return out


@pytest.fixture
def scorer(folder: Path) -> NgramScorer:
    """The trained scorer."""
    return load(folder, name="trained")


def test_it_learns_what_makes_a_text_toxic(scorer: NgramScorer) -> None:
    """Texts with a bad word are told from those without, also in words that training never saw."""
    harmless, toxic = scorer.score(["Unseen things of every kind here.", f"Unseen {BAD[0]} of every kind here."])
    assert harmless < 0.3
    assert toxic > 0.7
    assert scorer.card["held_out"]["auroc"] > 0.95


def test_a_score_recomputed_by_hand(scorer: NgramScorer, folder: Path) -> None:
    """Hashed TF-IDF, logit and calibration, from n-grams cut by hand and the stored weights, give the same score."""
    from sklearn.utils import murmurhash3_32

    stored = np.load(folder / "weights.npz")
    calibration = json.loads((folder / "scorer.json").read_text())["calibration"]

    def place(gram: str) -> int:
        return abs(int(murmurhash3_32(gram))) % 2**18

    def part(grams: list[str], kind: str) -> float:
        counts = Counter(map(place, grams))
        values = {i: (1 + math.log(n)) * float(stored[f"idf_{kind}"][i]) for i, n in counts.items()}
        length = math.sqrt(sum(value**2 for value in values.values()))
        return sum(value / length * float(stored[f"coefficients_{kind}"][i]) for i, value in values.items())

    for text in (f"A {BAD[1]} by word3, word4 and word3.", "word7", "I"):
        words = re.sub(r"[.,]", " ", text.lower()).split()
        pairs = [" ".join(pair) for pair in pairwise(words)]
        chars = []
        for word in words:
            padded = f" {word} "
            for n in range(2, 6):
                cut = [padded[i : i + n] for i in range(len(padded) - n + 1)]
                chars += cut or [padded]
                if len(cut) <= 1 and n >= len(padded):  # a word is counted whole once, not for every longer n
                    break
        logit = calibration["intercept"] + part(words + pairs, "word") + part(chars, "char_wb")
        score = 1 / (1 + math.exp(-(calibration["slope"] * logit + calibration["offset"])))
        assert scorer.score([text])[0] == pytest.approx(score, rel=1e-9)


def test_an_empty_text_is_the_intercept_alone(scorer: NgramScorer) -> None:
    """Empty texts, white space and mere links have the score of no n-gram at all."""
    weights = scorer.weights
    bare = 1 / (1 + math.exp(-(weights.slope * weights.intercept + weights.offset)))
    assert scorer.score(["", " \n", "https://example.org/x"]).tolist() == pytest.approx([bare] * 3)


def test_a_score_depends_on_its_text_alone(scorer: NgramScorer) -> None:
    """Bit for bit the same score whatever else is in the call, and how often; no texts, no scores."""
    texts = [f"word{i} {BAD[i % 4]} word{i * 7 % 50}" for i in range(60)]
    together = scorer.score([*texts, *texts])
    assert together.tolist() == [scorer.score([text])[0] for text in texts] * 2
    assert scorer.score([]).shape == (0,)
    assert np.isfinite(scorer.score(["\ud800 half", "\x00", "🙂", "a" * 20000])).all()


def test_training_again_gives_the_same_bytes(mirror: Path, folder: Path, tmp_path: Path) -> None:
    """Another process with another hash seed trains the same scorer, file by file."""
    code = "import sys; from pathlib import Path; from wtsbench.scoring.training import train_to\n"
    code += "train_to(Path(sys.argv[1]), Path(sys.argv[2]), name='again')"
    path = os.pathsep.join(str(Path(part).resolve()) for part in sys.path if part)
    environ = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again"), str(mirror)], env=environ, check=True)
    for file in folder.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_name_is_no_part_of_the_identity_and_the_data_are(folder: Path, tmp_path: Path) -> None:
    """Two names, one digest; other texts, another."""
    other = write_mirror(tmp_path, records=480)
    assert load(folder, name="a").digest == load(folder, name="b").digest
    assert train(read(other), name="a").digest != load(folder, name="a").digest


def test_nothing_held_out_is_nearly_the_same_as_something_learned() -> None:
    """Rewordings, and texts that belong together, are in one part; there is something in every part."""
    stem = [f"one{i} two{i} three{i} four{i} five{i} six{i}" for i in range(200)]
    rows = [Text(text, 0.1, "a", None) for text in stem]
    rows += [Text(f"{text} more".upper() + "!", 0.9, "b", None) for text in stem]
    rows += [Text(f"answer{i} of{i} another{i} kind{i}", 0.2, "a", f"tie{i}") for i in range(200)]
    rows += [Text(f"question{i} without{i} words{i} shared{i}", 0.2, "a", f"tie{i}") for i in range(200)]
    labelled = prepared(rows, {})
    part = dict(zip(labelled.texts, labelled.part.tolist(), strict=True))
    for i, text in enumerate(stem):
        assert part[text] == part[f"{text} more"]
        assert part[f"answer{i} of{i} another{i} kind{i}"] == part[f"question{i} without{i} words{i} shared{i}"]
    assert {"train", "calibration", "held_out"} == set(part.values())


def test_repeated_texts_are_there_once_with_their_mean() -> None:
    """Texts that differ in case, punctuation, links or user names only are one, and its label the mean."""
    rows = [Text("RT @me: Go home! http://t.co/1", 1.0, "a", None), Text("go home", 0.5, "a", None)]
    labelled = prepared(rows, {})
    assert labelled.texts == ["go home"]
    assert labelled.toxicity.tolist() == [0.75]


def test_the_card_recomputed_another_way() -> None:
    """AUROC by counting pairs, average precision, Brier and calibration error by hand, on scores with ties."""
    random = np.random.default_rng(0)
    truth = random.random(300)
    scores = np.round(np.clip(truth + random.normal(0, 0.3, 300), 0, 1), 1).astype(np.float64)
    found, toxic = evaluate(scores, truth), truth >= 0.5
    wins = [(a > b) + (a == b) / 2 for a in scores[toxic] for b in scores[~toxic]]
    assert found["auroc"] == pytest.approx(np.mean(wins), abs=1e-6)
    steps, recall_before = [], 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        taken = scores >= threshold
        recall = toxic[taken].sum() / toxic.sum()
        steps.append((recall - recall_before) * toxic[taken].mean())
        recall_before = recall
    assert found["average_precision"] == pytest.approx(sum(steps), abs=1e-6)
    assert found["brier"] == pytest.approx(np.mean((scores - toxic) ** 2), abs=1e-6)
    bins = defaultdict(list)
    for score, is_toxic in zip(scores.tolist(), toxic.tolist(), strict=True):
        bins[min(int(score * 10), 9)].append((score, is_toxic))
    gaps = [abs(sum(s for s, _ in rows) - sum(t for _, t in rows)) for rows in bins.values()]
    assert found["ece"] == pytest.approx(sum(gaps) / 300, abs=1e-6)
    assert sum(row["texts"] for row in found["reliability"]) == 300


def test_one_class_has_no_auroc() -> None:
    """What cannot be computed is null, never a number."""
    found = evaluate(np.array([0.2, 0.4]), np.array([0.1, 0.2]))
    assert found["auroc"] is None
    assert found["average_precision"] is None


def test_first_use_trains_and_later_uses_do_not(mirror: Path) -> None:
    """The shipped scorer is trained from the mirror once, kept in the cache, and the same afterwards."""
    first = resolve("toxicity-ngram", base=Path(), mirror=mirror)
    (kept,) = (Path(os.environ["WTSBENCH_CACHE"]) / "scorers").glob("ngram-*")
    before = {file.name: file.stat().st_mtime_ns for file in kept.iterdir()}
    assert resolve("toxicity-ngram", base=Path(), mirror=mirror).digest == first.digest
    assert {file.name: file.stat().st_mtime_ns for file in kept.iterdir()} == before
    assert not list(kept.parent.glob(".*.unfinished"))


def test_two_that_ask_at_once_get_one_scorer(mirror: Path) -> None:
    """Two processes that need the scorer at the same time get the same one, trained once and whole."""
    code = "import sys; from pathlib import Path; from wtsbench.scoring.resolve import resolve\n"
    code += "print(resolve('toxicity-ngram', base=Path(), mirror=Path(sys.argv[1])).digest)"
    path = os.pathsep.join(str(Path(part).resolve()) for part in sys.path if part)
    environ, command = {**os.environ, "PYTHONPATH": path}, [sys.executable, "-c", code, str(mirror)]
    both = [subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first, second = (process.communicate()[0] for process in both)
    assert len(first.strip()) == 64
    assert first == second
    assert len(list((Path(os.environ["WTSBENCH_CACHE"]) / "scorers").glob("ngram-*"))) == 1


def test_no_mirror_says_what_to_do() -> None:
    """Without a mirror folder the error names the variable; without a file in it, the file."""
    with pytest.raises(ScorerError, match="WTSBENCH_DATA_MIRROR"):
        resolve("toxicity-ngram", base=Path())


def test_a_missing_or_wrong_file_is_named(mirror: Path, tmp_path: Path) -> None:
    """A mirror that lacks a file, or holds another in its place, is refused with the file's name."""
    copy = shutil.copytree(mirror, tmp_path / "mirror")
    file = copy / RECORDS / "nontoxic.jsonl"
    file.write_text('{"text": "of another form"}\n')
    with pytest.raises(ScorerError, match=r"nontoxic\.jsonl does not have the expected form"):
        read(copy)
    file.unlink()
    with pytest.raises(ScorerError, match=r"no file toxicity_rtp_decodingtrust/nontoxic\.jsonl"):
        read(copy)


def test_too_few_texts_train_nothing(tmp_path: Path) -> None:
    """A scorer that could not be judged is not made."""
    with pytest.raises(ScorerError, match="too few texts"):
        train(read(write_mirror(tmp_path, records=40)), name="few")


@pytest.mark.parametrize("file", ["weights.npz", "scorer.json", "card.json"])
def test_a_damaged_or_missing_file_is_refused(folder: Path, tmp_path: Path, file: str) -> None:
    """A cut file is damage, a missing one is named; neither gives a score."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / file).write_bytes((copy / file).read_bytes()[:-40])
    with pytest.raises(ScorerError, match="damaged"):
        load(copy, name="cut")
    (copy / file).unlink()
    with pytest.raises(ScorerError, match=re.escape(f"lacks {file}")):
        load(copy, name="cut")


def test_exchanged_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    """Weights of another scorer under this one's digest are found out."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    with np.load(copy / "weights.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["coefficients_word"] = arrays["coefficients_word"] * np.float32(1.5)
    np.savez(copy / "weights.npz", allow_pickle=False, **arrays)
    with pytest.raises(ScorerError, match="not those it was saved with"):
        load(copy, name="other")


def test_a_manifest_can_pin_the_scorer(folder: Path, tmp_path: Path) -> None:
    """A manifest names a trained folder and its digest; another scorer in that folder is refused."""
    right = load(folder, name="x").digest
    text = "apiVersion: wtsbench/v1\nkind: scorer\nname: mine\nsummary: my own\n"
    manifest = tmp_path / "mine.yaml"
    manifest.write_text(f"{text}source: {{kind: ngram, path: {folder}, digest: {right}}}\n")
    assert resolve(str(manifest), base=Path()).digest == right
    manifest.write_text(f"{text}source: {{kind: ngram, path: {folder}, digest: {'a' * 64}}}\n")
    with pytest.raises(ScorerError, match="its manifest says aaaa"):
        resolve(str(manifest), base=Path())


def test_a_folder_in_use_is_not_overwritten(mirror: Path, tmp_path: Path) -> None:
    """Training goes into an empty or a new folder only."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ScorerError, match="not empty"):
        train_to(tmp_path, mirror, name="x")


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / RECORDS).is_dir(), reason="no data mirror here")
def test_on_the_real_data(tmp_path: Path) -> None:
    """Trained on the real texts it ranks held-out Perspective scores well and is calibrated; recomputed by own code."""
    scorer = train_to(tmp_path / "real", REAL, name="real")
    card = scorer.card["held_out"]
    assert card["auroc"] > 0.96
    assert card["spearman"] > 0.84
    assert card["ece"] < 0.04
    labelled = read(REAL)
    there = (labelled.part == HELD_OUT) & (labelled.source == PERSPECTIVE_SCORED)
    texts = [labelled.texts[i] for i in np.flatnonzero(there)]
    scores, toxic = scorer.score(texts), labelled.toxicity[there] >= 0.5
    wins = mannwhitneyu(scores[toxic], scores[~toxic]).statistic
    assert card["auroc"] == pytest.approx(wins / toxic.sum() / (~toxic).sum(), abs=1e-6)
    assert card["brier"] == pytest.approx(np.mean((scores - toxic) ** 2), abs=1e-6)
    parts: dict[str, set[str]] = defaultdict(set)
    by_even = dict(zip(labelled.texts, labelled.part.tolist(), strict=True))
    for number, line in enumerate((REAL / RECORDS / "toxic.jsonl").read_text().splitlines()):
        for side in ("prompt", "continuation"):
            text = normalised(json.loads(line)[side]["text"])
            if text in by_even:
                parts[str(number)].add(by_even[text])
    assert len(parts) > 1000
    assert all(len(found) == 1 for found in parts.values())

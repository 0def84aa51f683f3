"""Classifiers of the hub or of a folder as scorers; the scores of tiny ones are recomputed by transformers alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.models.hub_server import COMMIT, serve
from tests.trial.tiny import write_tiny_model
from wtsbench.errors import ScorerError, ScorerUnavailable
from wtsbench.scoring.hub import HubScorer, resolve_hub
from wtsbench.scoring.resolve import resolve
from wtsbench.spec.scorer import HubClassifierSource, ScorerManifest
from wtsbench.trial.classify import Request, scores
from wtsbench.trial.faults import UnusableModelError

TEXTS = ["alpha beta", "bomb", "river stone cloud cake alpha 12 13 14 15", "", "bomb", "cake " * 200]


def write_classifier(folder: Path, model_type: str = "bert", **settings: Any) -> Path:
    """A classifier with a random head, as a folder; `settings` go into its configuration."""
    write_tiny_model(folder, model_type, pad_token="<pad>")
    torch.manual_seed(3)
    names = settings.pop("names", ["neutral", "toxic"])
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        folder,
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
        pad_token_id=3,
        **settings,
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith(("classifier", "score")):
                weight.normal_(0, 1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-class BERT, for reading."""
    return write_classifier(tmp_path_factory.mktemp("classifier"))


def manifest(source: HubClassifierSource, **settings: Any) -> ScorerManifest:
    """A manifest of this source."""
    return ScorerManifest(name="mine", summary="for a test", source=source, **settings)


def scorer(folder: Path, **settings: Any) -> HubScorer:
    """A scorer of a folder."""
    source = HubClassifierSource(path=str(folder), **{"label": "toxic", **settings})
    return resolve_hub(manifest(source), source, folder=Path("/"), mirror=None)


def classified(folder: Path, **settings: Any) -> np.ndarray[Any, Any]:
    """Scores of TEXTS as the scorer's process computes them, in this one."""
    given = {"label": "toxic", "activation": "auto", "max_length": 512, "batch_size": 3, "threads": 1, **settings}
    found: np.ndarray[Any, Any] = scores(Request(model=str(folder), **given), TEXTS)
    return found


def logits_by_hand(folder: Path, text: str, longest: int = 48) -> np.ndarray[Any, Any]:
    """Logits of one text alone, without padding or batches."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder)
    ids = tokenizer(text, truncation=True, max_length=longest)["input_ids"] or [tokenizer.bos_token_id]
    with torch.inference_mode():
        found: np.ndarray[Any, Any] = model.eval()(torch.tensor([ids])).logits[0].double().numpy()
    return found


def test_scores_recomputed_one_text_at_a_time(folder: Path) -> None:
    """Batched by length and padded, every text gets the softmax of its own logits, cut at the longest input."""
    found = scorer(folder, batch_size=2).score(TEXTS)
    for text, score in zip(TEXTS, found.tolist(), strict=True):
        logits = logits_by_hand(folder, text)
        assert score == pytest.approx(np.exp(logits[1]) / np.exp(logits).sum(), abs=2e-6)
    assert found[1] == found[4]
    assert len(set(found.tolist())) > 3
    assert classified(folder, label=1) == pytest.approx(found, abs=2e-6)
    assert classified(folder, label="neutral") == pytest.approx(1 - found, abs=2e-6)


def test_a_causal_multi_label_classifier(tmp_path: Path) -> None:
    """A multi-label model gets a sigmoid of the label's own logit at the last real token; softmax can be forced."""
    folder = write_classifier(
        tmp_path, "llama", names=["insult", "toxic", "threat"], problem_type="multi_label_classification"
    )
    found, forced = classified(folder), classified(folder, activation="softmax")
    for text, score, other in zip(TEXTS, found.tolist(), forced.tolist(), strict=True):
        logits = logits_by_hand(folder, text)
        assert score == pytest.approx(1 / (1 + np.exp(-logits[1])), abs=2e-6)
        assert other == pytest.approx(np.exp(logits[1]) / np.exp(logits).sum(), abs=2e-6)


def test_what_decides_a_score_is_in_the_identity(folder: Path, tmp_path: Path) -> None:
    """Class, activation, length and weights make another scorer; place, name and batch size do not."""
    first = scorer(folder).digest
    assert scorer(folder, batch_size=1).digest == first
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in folder.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    assert scorer(moved).digest == first
    others = [scorer(folder, label="neutral"), scorer(folder, activation="sigmoid"), scorer(folder, max_length=9)]
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    assert len({first, scorer(moved).digest, *(other.digest for other in others)}) == 5


def test_an_unknown_class_names_the_known(folder: Path) -> None:
    """A label that the model has not is told with those it has."""
    with pytest.raises(ScorerError, match="0 neutral, 1 toxic") as caught:
        scorer(folder, label="toxicity").score(["alpha"])
    assert not isinstance(caught.value, ScorerUnavailable)
    with pytest.raises(UnusableModelError, match="no class 7; it has 0 neutral, 1 toxic"):
        classified(folder, label=7)


def test_weights_without_a_head_are_no_scorer(tmp_path: Path) -> None:
    """A pretrained body would score by chance: it is refused."""
    with pytest.raises(UnusableModelError, match="not those of a trained classifier"):
        classified(write_tiny_model(tmp_path, "bert"), label=1)


def test_files_that_changed_are_refused(tmp_path: Path) -> None:
    """What is scored with is what the identity says."""
    folder = write_classifier(tmp_path)
    planned = scorer(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    with pytest.raises(ScorerError, match="have changed"):
        planned.score(["alpha"])


def test_a_killed_process_can_be_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A scorer's process that ends without a word is unavailable, not wrong."""
    (tmp_path / "sitecustomize.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    ready = scorer(folder)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ScorerUnavailable, match="exit code -9"):
        ready.score(["alpha"])


def test_no_texts_start_no_process(folder: Path) -> None:
    """Nothing to score is nothing to do."""
    assert scorer(folder).score([]).shape == (0,)


def test_the_mirror_stands_in_for_the_hub(folder: Path) -> None:
    """Where the mirror folder has the weights, the hub is not asked."""
    source = HubClassifierSource(hub="owner/classifier", label="toxic")
    named = manifest(source, mirror=folder.name)
    assert resolve_hub(named, source, folder=Path("/"), mirror=folder.parent).digest == scorer(folder).digest


@pytest.mark.parametrize("source", [{"label": 1}, {"hub": "a/b", "path": "./c", "label": 1}, {"hub": "a/b"}])
def test_a_source_is_one_of_hub_and_path_with_a_label(source: dict[str, Any]) -> None:
    """A source without a place, with two, or without a class is refused."""
    with pytest.raises(ValueError, match=r"hub and path|label"):
        HubClassifierSource.model_validate(source)


SCRIPT = """\
import json, sys
from pathlib import Path
from wtsbench.scoring.resolve import resolve
scorer = resolve(sys.argv[1], base=Path())
print(json.dumps([scorer.identity(), scorer.score(["alpha beta", "bomb"]).tolist()]))
"""


def test_from_a_hub(folder: Path, tmp_path: Path) -> None:
    """A branch is resolved to its commit, which the identity names; weights come down; the scores are the folder's."""
    named = tmp_path / "mine.yaml"
    named.write_text(
        "apiVersion: wtsbench/v1\nkind: scorer\nname: mine\nsummary: of a hub\n"
        "source: {kind: hub, hub: owner/classifier, label: toxic}\n"
    )
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    with serve({"owner/classifier": files}) as hub:
        environ = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        environ = {name: value for name, value in environ.items() if name != "HF_HUB_OFFLINE"}
        environ["PYTHONPATH"] = os.pathsep.join(str(Path(part).resolve()) for part in sys.path if part)
        command = [sys.executable, "-c", SCRIPT, str(named)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    identity, found = json.loads(done.stdout)
    assert (identity["model"], identity["revision"]) == ("owner/classifier", COMMIT)
    assert found == scorer(folder).score(["alpha beta", "bomb"]).tolist()


def test_a_folder_in_a_manifest_is_relative_to_it(folder: Path, tmp_path: Path) -> None:
    """A path in a manifest starts from the manifest's folder."""
    place = os.path.relpath(folder, tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "apiVersion: wtsbench/v1\nkind: scorer\nname: mine\nsummary: a folder\n"
        f"source: {{kind: hub, path: {place}, label: 1}}\n"
    )
    assert resolve("./mine.yaml", base=tmp_path).digest == scorer(folder, label=1).digest

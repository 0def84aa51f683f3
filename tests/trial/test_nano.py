"""The embedded ladder: made from recipes, deterministic, and stronger with size."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from wtsbench.data.synthetic import documents
from wtsbench.errors import ModelError
from wtsbench.models.embedded import RECIPES, recipe, recipe_digest
from wtsbench.settings import shipped
from wtsbench.spec.model import ModelManifest
from wtsbench.trial import nano

TEXTS = (
    "The information may be disclosed to: (i) provide joint content and our services (eg, registration).",
    "  Two spaces, a tab\tand a line\nbreak; naïve café, 價格 5 €, 🙂 <eos> <pad>",
    "How do I keep my sister from selling my uncle's boat?",
    "",
)


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nano-1, built as a user gets it."""
    folder = tmp_path_factory.mktemp("nano") / "deep" / "nano-1"
    nano.build("nano-1", folder)
    return folder


def test_a_built_model_is_a_whole_hugging_face_folder(smallest: Path) -> None:
    """It loads as a causal language model and as a classifier, in float32, and nothing unfinished lies beside it."""
    model = AutoModelForCausalLM.from_pretrained(smallest)
    assert model.dtype is torch.float32
    assert model.num_parameters() == recipe("nano-1").parameters
    classifier = AutoModelForSequenceClassification.from_pretrained(smallest, num_labels=3)
    assert classifier.config.pad_token_id == AutoTokenizer.from_pretrained(smallest).pad_token_id
    assert [path.name for path in smallest.parent.iterdir()] == ["nano-1"]
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in smallest.iterdir()), "another user may read it"


def test_every_text_survives_the_tokenizer(smallest: Path) -> None:
    """Decoding gives back the very text, and no text contains the padding or end token."""
    tokenizer = AutoTokenizer.from_pretrained(smallest)
    assert tokenizer.is_fast
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert not {tokenizer.pad_token_id, tokenizer.eos_token_id} & set(ids)


def test_padding_changes_no_prediction(smallest: Path) -> None:
    """The next-token scores of a text are the same alone and padded on the right."""
    model: Any = AutoModelForCausalLM.from_pretrained(smallest)
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(smallest)
    batch = tokenizer([TEXTS[2], TEXTS[0]], padding=True, return_tensors="pt")
    alone = tokenizer(TEXTS[2], return_tensors="pt")
    with torch.inference_mode():
        length = alone["input_ids"].shape[1]
        torch.testing.assert_close(model(**batch).logits[0, :length], model(**alone).logits[0], rtol=1e-4, atol=1e-4)


def test_building_where_a_model_is_leaves_it_alone(tmp_path: Path) -> None:
    """An existing folder is never written to."""
    (tmp_path / "nano-1").mkdir()
    nano.build("nano-1", tmp_path / "nano-1")
    assert list((tmp_path / "nano-1").iterdir()) == []


def test_pretraining_twice_gives_the_same_weights() -> None:
    """Tokenizer and weights of a shortened recipe are equal, bit by bit, and it learned something."""
    short = recipe("nano-2").model_copy(update={"tokens": 8000})
    pages = nano.corpus(short.corpus)
    ids = [nano.encode(nano.learn_tokenizer(pages, short), pages, short.tokens) for _ in range(2)]
    assert ids[0] == ids[1]
    assert 8000 <= sum(map(len, ids[0])) < 8100
    one, other = (nano.pretrain(short, ids[0]).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_changed_pages_are_noticed() -> None:
    """A recipe whose pages are not those it was written for is refused, with the digest to write."""
    with pytest.raises(ModelError, match="digest"):
        nano.corpus(recipe("nano-1").corpus.model_copy(update={"pages": 10}))


def test_manifests_and_recipes_agree() -> None:
    """Every recipe has a manifest with its name, its size and one family; sizes and reading grow along the ladder."""
    for name, member in RECIPES.items():
        manifest = ModelManifest.model_validate(
            yaml.safe_load((shipped("manifests") / "models" / f"{name}.yaml").read_text())
        )
        assert manifest.source is not None
        assert (manifest.name, manifest.family, manifest.source.embedded) == (name, "nano", name)
        assert manifest.parameters == member.parameters
    sizes = [(member.parameters, member.tokens) for member in RECIPES.values()]
    assert sizes == sorted(sizes)


def test_the_revision_is_that_of_the_whole_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members differ in revision, and any change of a recipe changes it."""
    before = {name: recipe_digest(name) for name in RECIPES}
    assert len(set(before.values())) == len(before)
    for change in ({"tokens": 1}, {"seed": 1}, {"learning_rate": 0.1}):
        monkeypatch.setitem(RECIPES, "nano-1", RECIPES["nano-1"].model_copy(update=change))
        assert recipe_digest("nano-1") not in before.values()


def test_an_unknown_member_is_answered_with_the_ladder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with the usage exit code and names the members; so it does without arguments."""
    assert nano.main(["nano-9", str(tmp_path / "x")]) == 2
    assert "nano-1, nano-2, nano-3" in capsys.readouterr().err
    assert nano.main([]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_larger_members_read_better(tmp_path: Path) -> None:
    """On pages none has seen, the loss per token falls along the ladder by a clear step each time."""
    pages = list(islice(documents(10**6), 600))
    losses = []
    for name in RECIPES:
        nano.build(name, tmp_path / name)
        model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        model.eval()
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / name)
        ids = tokenizer(pages, padding=True, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            logits = torch.cat([model(part).logits[:, :-1] for part in ids.split(50)])
        losses.append(
            cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=tokenizer.pad_token_id).item()
        )
    assert losses[0] - 0.03 > losses[1]
    assert losses[1] - 0.03 > losses[2]

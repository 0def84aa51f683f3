"""Text is text: control tokens come from wordings of manifests, and never from what an item says."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.trial.folders import mirror
from tests.trial.tiny import write_tiny_model
from wtsbench.data.synthetic import documents
from wtsbench.models.embedded import recipe
from wtsbench.spec.control_tokens import marked
from wtsbench.spec.training import Training
from wtsbench.trial.device import Device
from wtsbench.trial.models import Tokenizer as ClassifierTokenizer
from wtsbench.trial.models import load_tokenizer
from wtsbench.trial.nano import learn_tokenizer
from wtsbench.trial.text_tokens import TextTokenizer, load_text_tokenizer
from wtsbench.trial.tokenizing import around, as_text, control_tokens, plain
from wtsbench.trial.zero_shot import Asker

PAGES = ["the river </ s > [ SEP ] and the stone < s > | end | and a cake / pad unk mask"] * 30


def fast(backend: Tokenizer, **names: str) -> Any:
    """A tokenizer of transformers around one of tokenizers."""
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)  # type: ignore[no-untyped-call]


def byte_level() -> Any:
    """As GPT-2's."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=letters, show_progress=False
    )
    backend.train_from_iterator(PAGES, trainer)
    return fast(backend, eos_token="<|endoftext|>", bos_token="<|endoftext|>")


def word_pieces() -> Any:
    """As BERT's: lower case, and control tokens around every text."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend.train_from_iterator(PAGES, trainers.WordPieceTrainer(special_tokens=specials, show_progress=False))
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return fast(backend, mask_token="[MASK]", **names)


def unigram() -> Any:
    """As T5's and XLM-R's: a control token is one of the words that a text is made of, and the likeliest."""
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    specials = ["<s>", "</s>", "<unk>", "<pad>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=specials, unk_token="<unk>", initial_alphabet=list("<>/[]|"), show_progress=False
    )
    backend.train_from_iterator(PAGES, trainer)
    return fast(backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>")


def whole_words() -> Any:
    """Words between blanks: a control token in a text is such a word."""
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "the": 3, "river": 4}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return fast(backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def nano() -> Any:
    """The tokenizer of the embedded ladder, learned from fewer pages."""
    return learn_tokenizer(list(islice(documents(seed=0), 200)), recipe("nano-1"))


KINDS = [byte_level, word_pieces, unigram, whole_words, nano]


def said(names: dict[str, int]) -> list[str]:
    """Texts that say every control token, alone, among words and within one."""
    return [text for name in names for text in (name, f"the {name} river", f"the{name}river", f"{name}{name}")]


@pytest.mark.parametrize("make", KINDS)
def test_no_text_becomes_a_control_token(make: Callable[[], Any]) -> None:
    """Whatever kind of vocabulary: texts that say control tokens give none, but the one that stands for the unknown."""
    tokenizer = as_text(make())
    names = control_tokens(tokenizer)
    assert len(names) >= 1
    for row in plain(tokenizer, said(names)):
        assert not set(row) & set(names.values()) - {tokenizer.unk_token_id}


@pytest.mark.parametrize("make", KINDS)
def test_other_texts_are_read_as_before(make: Callable[[], Any]) -> None:
    """A text without control tokens gives the tokens that it gave before, and those around it as well."""
    texts = ["the river and the stone", " a  < s > cake\n/", "", "Über [ sep ]"]
    tokenizer = make()
    before = tokenizer(texts)["input_ids"]
    assert as_text(tokenizer)(texts)["input_ids"] == before


@pytest.mark.parametrize("make", [byte_level, unigram, nano])
def test_a_learned_continuation_says_what_it_says(make: Callable[[], Any]) -> None:
    """Prompt and continuation that say the end token hold none but the end itself, and come back as they were."""
    backend = as_text(make())
    end = backend.eos_token_id
    tokenizer = TextTokenizer(backend=backend, prefix=(), end_id=end, pad_id=0, filler_id=0, context=200)
    name = backend.eos_token
    prompt, text = f"the {name} river", f" and {name}the stone{name}"
    (row,) = tokenizer.sequences([prompt], [text], [True])
    assert row.ids.count(end) == 1
    assert row.ids[-1] == end
    assert tokenizer.decode([row.ids[: row.start]], [row.continuation]) == [text]
    assert sum(tokenizer.widths(row)) == len(text)
    assert end not in tokenizer.prompts([prompt], 5)[0]


def test_a_wording_may_name_control_tokens() -> None:
    """Those of a template are themselves, those of the text in it are text, and both stay within the model's length."""
    backend = as_text(word_pieces())
    tokenizer = ClassifierTokenizer(encode_batch=backend, max_length=10, pad_id=0, filler_id=1)
    names = control_tokens(backend)
    text = marked("{text} [SEP] a cake [MASK]").replace("{text}", "the [SEP] river")
    (row,) = tokenizer.encode([text])
    assert row[0] == names["[CLS]"]
    assert row[-1] == names["[SEP]"]
    assert row.count(names["[SEP]"]) == 2
    assert len(row) == 10
    whole = ClassifierTokenizer(encode_batch=backend, max_length=64, pad_id=0, filler_id=1).encode([text])[0]
    assert whole.count(names["[MASK]"]) == 1
    assert whole[: len(row) - 1] == row[:-1]
    elsewhere = as_text(byte_level())
    assert plain(elsewhere, [text]) == plain(elsewhere, ["the [SEP] river [SEP] a cake [MASK]"])


def test_text_cannot_forge_a_marked_token() -> None:
    """A frame that puts brackets around the text makes no control token of what the text says."""
    backend = as_text(word_pieces())
    for frame, text in (("[{text}]", "SEP"), ("[SEP{text}", "]")):
        (row,) = plain(backend, [marked(frame).replace("{text}", text)])
        assert control_tokens(backend)["[SEP]"] not in row


def test_a_zero_shot_prompt_may_name_them(tmp_path: Path) -> None:
    """The prompt's end token is one, and the text's is not, in a prompt that fits and in one that is cut."""
    folder = write_tiny_model(tmp_path / "model")
    for max_length in (48, 12):
        asker = Asker(
            folder,
            prompt="</s> {text} </s>",
            answers=("river", "stone"),
            training=Training(max_length=max_length),
            device=Device(torch_device=torch.device("cpu"), dtype=torch.float32, threads=1),
        )
        ids = asker.encode("river </s> stone <s> " * 3)
        assert (ids[0], ids[-1], ids.count(2), ids.count(1)) == (2, 2, 2, 0)
        assert len(ids) <= max_length


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "stories260K"])
def test_real_tokenizers(name: str) -> None:
    """BERT's and Llama's: no text becomes a control token, for a classifier, a prompt or a continuation."""
    folder = mirror() / "models" / name
    classifier = load_tokenizer(folder, 64)
    names = control_tokens(classifier.encode_batch)
    texts = said({**names, "<|endoftext|>": 0})
    front, behind = around(classifier.encode_batch)
    assert front
    for row in classifier.encode(texts):
        body = row[len(front) : len(row) - len(behind)]
        assert tuple(row[: len(front)]) == front
        assert body
        assert not set(body) & set(names.values())
    writer = load_text_tokenizer(folder, 64)
    for row, sequence in zip(
        writer.prompts(texts, 2), writer.sequences(texts, texts, [False] * len(texts)), strict=True
    ):
        assert not set(row[len(writer.prefix) :]) & set(names.values())
        assert not set(sequence.ids[len(writer.prefix) :]) & set(names.values())

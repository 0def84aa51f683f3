"""Texts as tokens: the boundary of prompt and continuation, what is cut, and numbers by character."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.trial.folders import mirror
from wtsbench.trial.drafts import by_character
from wtsbench.trial.faults import UnusableModelError
from wtsbench.trial.sequence_training import spread
from wtsbench.trial.text_tokens import Encoded, TextTokenizer, load_text_tokenizer

TEXT = "the river and the stone, über 12 cakes; the cake – naïve"


def byte_level(vocabulary: int = 300, context: int = 40) -> TextTokenizer:
    """Byte-level BPE, like GPT-2's: no begin token, and characters that may take several tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(["the river and the stone and the cake"], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")  # type: ignore[no-untyped-call]
    return TextTokenizer(backend=fast, prefix=(), end_id=0, pad_id=0, filler_id=0, context=context)


@pytest.mark.parametrize("text", [" the stone", "stone", "", " über", " a – b", "\n\nx"])
def test_a_continuation_comes_back_as_it_was(text: str) -> None:
    """Decoding the continuation's tokens after the prompt's gives its text, blanks and odd characters included."""
    tokenizer = byte_level(context=200)
    (row,) = tokenizer.sequences(["the river"], [text], [True])
    assert tokenizer.decode([row.ids[: row.start]], [row.continuation]) == [text]
    assert row.ended
    assert row.ids[-1] == tokenizer.end_id


def test_prompt_and_continuation_join_as_the_tokenizer_would() -> None:
    """Where no token crosses the boundary, the sequence is the whole text's; the prompt's tokens are always its own."""
    tokenizer = byte_level(context=200)
    for prompt, text in (("the river", " and the stone"), ("the ", "stone"), ("the ri", "ver")):
        (row,) = tokenizer.sequences([prompt], [text], [False])
        (alone,) = tokenizer.prompts([prompt], 1)
        assert row.ids[: row.start] == alone
        whole = tokenizer.backend(prompt + text)["input_ids"]
        assert row.ids == whole or whole[: len(alone)] != alone
        assert tokenizer.decode([alone], [row.continuation]) == [text]


def test_what_is_too_long_loses_the_front_of_the_prompt() -> None:
    """The end of the prompt and the continuation survive; a continuation that is too long itself loses its end."""
    tokenizer = byte_level(context=12)
    (row,) = tokenizer.sequences([TEXT], [" cake"], [True])
    assert len(row.ids) == 12
    (whole,) = byte_level(context=500).sequences([TEXT], [" cake"], [True])
    assert row.ids == whole.ids[-12:]
    (cut,) = tokenizer.sequences(["the river"], [TEXT], [True])
    assert len(cut.ids) == 12
    assert (cut.start, cut.ended) == (1, False)
    assert all(len(ids) == 5 for ids in tokenizer.prompts([TEXT], 7))
    with pytest.raises(UnusableModelError, match="no room"):
        tokenizer.prompts([TEXT], 12)


def test_a_prompt_without_tokens_is_continued_all_the_same() -> None:
    """A token stands for it, as a model needs something to read."""
    tokenizer = byte_level()
    assert tokenizer.prompts([""], 5) == [[0]]
    (row,) = tokenizer.sequences([""], [" cake"], [True])
    assert row.start == 1
    assert tokenizer.decode([row.ids[:1]], [row.continuation]) == [" cake"]


def test_numbers_go_to_characters_and_back() -> None:
    """To the same tokens they come back; to others with the same sum; over common spans the sums stay."""
    writer, reader = byte_level(300, 200), byte_level(262, 200)
    text = " the river and über"
    (row,) = writer.sequences(["the"], [text], [True])
    (other,) = reader.sequences(["the"], [text], [True])
    assert len(row.ids) != len(other.ids)
    values = np.random.default_rng(0).normal(size=len(row.ids) - row.start)
    letters = by_character(values, row, writer)
    assert len(letters) == len(text) + 1
    back = spread(letters, row, writer)
    merged = [value for value, width in zip(back, [*writer.widths(row), 1], strict=True) if width]
    assert sum(back) == pytest.approx(values.sum())
    assert back[0] == pytest.approx(values[0])
    assert back[-1] == values[-1]
    assert len(merged) <= len(values)
    elsewhere = spread(letters, other, reader)
    assert elsewhere.sum() == pytest.approx(values.sum())
    first = len(" the")  # both have a token's end here
    upto = [int(np.flatnonzero(np.cumsum(t.widths(r)) == first)[0]) + 1 for t, r in ((writer, row), (reader, other))]
    assert elsewhere[: upto[1]].sum() == pytest.approx(values[: upto[0]].sum())


def test_a_real_tokenizer_with_a_begin_token_and_a_blank_of_its_own() -> None:
    """stories260K's puts a blank before every text: not before a continuation, whatever the prompt ends with."""
    folder = mirror() / "models" / "stories260K"
    tokenizer = load_text_tokenizer(folder, 256)
    assert (tokenizer.prefix, tokenizer.end_id) == ((1,), 2)
    prompts, texts = ["Once upon a", "Once upon ", "On", "She said: "], [" time", "a time", "ce more", "no – never"]
    rows = tokenizer.sequences(prompts, texts, [True] * 4)
    assert tokenizer.decode([row.ids[: row.start] for row in rows], [row.continuation for row in rows]) == texts
    for row, prompt, text in zip(rows, prompts, texts, strict=True):
        assert [row.ids[: row.start]] == tokenizer.prompts([prompt], 20)
        assert sum(tokenizer.widths(row)) == len(text)


def test_a_model_folder_says_its_context(tiny_llama: Path) -> None:
    """The shorter of what the model allows and what the settings say."""
    assert load_text_tokenizer(tiny_llama, 256).context == 48
    assert load_text_tokenizer(tiny_llama, 30).context == 30
    assert Encoded(ids=[1, 5, 6, 2], start=2, ended=True).continuation == [6]

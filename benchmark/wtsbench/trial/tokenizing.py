"""A model's own tokenizer, read so that text is text: no control token comes out of what a text says.

transformers makes a `</s>` in a text the token that ends texts, unless told to split control tokens. Tokenizers of
the kinds Unigram and WordLevel find control tokens among their words all the same; they are kept from doing so by
parting a control token's first character from the rest before words are looked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, pre_tokenizers
from transformers import AutoTokenizer

from wtsbench.spec.control_tokens import START, pieces, unmarked
from wtsbench.trial.faults import UnusableModelError
from wtsbench.visible import first_line


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder, to which control tokens in a text are text.

    Raises:
        UnusableModelError: the folder has no tokenizer that transformers can read.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise UnusableModelError(f"the model's tokenizer cannot be loaded: {first_line(error)}") from error
    return as_text(tokenizer)


def as_text(tokenizer: Any) -> Any:
    """The same tokenizer, changed so that control tokens in a text are text."""
    tokenizer.split_special_tokens = True
    backend = getattr(tokenizer, "backend_tokenizer", None)
    # A single character is a word like others, whatever else it is used for; the token of unknown words has to come.
    found = [
        token
        for token, number in control_tokens(tokenizer).items()
        if len(token) > 1 and number != tokenizer.unk_token_id and number in plain(tokenizer, [token])[0]
    ]
    if backend is not None and found:
        parts = [
            pre_tokenizers.Split(Regex(f"{re.escape(token[0])}(?={re.escape(token[1:])})"), "isolated")
            for token in found
        ]
        before = [] if backend.pre_tokenizer is None else [backend.pre_tokenizer]
        backend.pre_tokenizer = pre_tokenizers.Sequence([*before, *parts])
    return tokenizer


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """Every control token of a tokenizer, with its number."""
    added = tokenizer.added_tokens_decoder.items()
    found = {token.content: number for number, token in added if token.special}
    return found | dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))


def plain(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text alone, without what the tokenizer puts around it; marked control tokens are themselves."""
    if not texts:
        return []
    names = control_tokens(tokenizer) if any(START in text for text in texts) else {}
    asked: list[str] = []
    rows: list[list[int | str]] = []
    for text in texts:
        row: list[int | str] = [""]
        for place, piece in enumerate(pieces(text)):
            if place % 2 and piece in names:
                row += [names[piece], ""]
            else:  # text, or no control token of this model: one with the text around it
                row[-1] = f"{row[-1]}{unmarked(piece)}"
        rows.append(row)
        asked += [part for part in row if isinstance(part, str)]
    encoded = iter(tokenizer(asked, add_special_tokens=False, return_attention_mask=False)["input_ids"])
    return [[i for part in row for i in (next(encoded) if isinstance(part, str) else [part])] for row in rows]


def around(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the tokenizer puts in front of a text and behind it of its own accord."""
    text = "a"
    alone = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    dressed = list(tokenizer(text)["input_ids"])
    for start in range(len(dressed) - len(alone) + 1):
        if dressed[start : start + len(alone)] == alone:
            return tuple(dressed[:start]), tuple(dressed[start + len(alone) :])
    return (), ()

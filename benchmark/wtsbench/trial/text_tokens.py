"""Prompts and continuations as the tokens of a language model, and back.

A sequence is `prefix + prompt + continuation + end`:

- *prefix* is what the tokenizer itself puts in front of every text (a begin token for Llama, nothing for GPT-2);
- *prompt* is encoded on its own, as it is when the model has to continue it;
- *continuation* is what the tokenizer makes of prompt and continuation together, less the prompt's tokens. Where a
  token would cross the boundary (a prompt that ends with a blank, say) the continuation is encoded as after a line
  break, and where not even that divides, on its own: the prompt's tokens are the same in training and in generation;
- *end* is the tokenizer's end token, so that the model learns to stop. It is left out of texts that were cut off.

What is too long for the context is cut at the left end of the prompt, behind the prefix, so that the end of the prompt
and the continuation survive. A continuation that fills the context alone is cut at its end. Nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from wtsbench.spec.control_tokens import unmarked
from wtsbench.trial.faults import UnusableModelError
from wtsbench.trial.models import UNBOUNDED, positions
from wtsbench.trial.tokenizing import around, plain, read_tokenizer
from wtsbench.visible import first_line

_BREAK = "\n"
_NEAR = 16
"""Tokens of the prompt that decide how its continuation decodes, in plenty."""
_PROMPT_LEAST = 1
"""Tokens of the prompt that survive whatever the continuation's length."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One sequence of tokens whose first part is given and whose second is learned or scored."""

    ids: list[int]
    start: int
    """Where the continuation begins; at least 1, since the first token has nothing before it to be predicted from."""
    ended: bool
    """Whether the last token is the end token."""

    @property
    def continuation(self) -> list[int]:
        """The tokens of the continuation, without the end token."""
        return self.ids[self.start : len(self.ids) - self.ended]


@dataclass(frozen=True, kw_only=True)
class TextTokenizer:
    """A language model's own tokenizer, to which text is text."""

    backend: Any
    prefix: tuple[int, ...]
    end_id: int | None
    """None where the tokenizer has no end token: then nothing teaches the model to stop."""
    pad_id: int
    filler_id: int
    """Stands for a prompt that has no token at all."""
    context: int
    """Tokens that a sequence may have."""

    def prompts(self, texts: Sequence[str], room: int) -> list[list[int]]:
        """Token ids of each prompt, prefix first, at least one, with room for `room` more.

        Raises:
            UnusableModelError: the context does not hold so many new tokens and one of a prompt.
        """
        limit = self.context - room
        if limit < len(self.prefix) + _PROMPT_LEAST:
            raise UnusableModelError(
                f"the model's context of {self.context} tokens (training.max_length is a limit too) has no room for "
                f"a prompt and {room} new tokens; lower generation.max_new_tokens"
            )
        return [self._given(ids, limit) for ids in self._plain(texts)]

    def sequences(self, prompts: Sequence[str], continuations: Sequence[str], ended: Sequence[bool]) -> list[Encoded]:
        """Prompt, continuation and, where it is ended and there is one, the end token; at most `context` tokens."""
        given = self._plain(prompts)
        joined = self._plain([prompt + text for prompt, text in zip(prompts, continuations, strict=True)])
        found = []
        for prompt, both, text, end in zip(given, joined, continuations, ended, strict=True):
            learned = both[len(prompt) :] if both[: len(prompt)] == prompt else self._alone(text)
            tail = [self.end_id] if end and self.end_id is not None else []
            most = self.context - len(self.prefix) - _PROMPT_LEAST
            if len(learned) + len(tail) > most:
                learned, tail = learned[:most], []
            front = self._given(prompt, self.context - len(learned) - len(tail))
            found.append(Encoded(ids=[*front, *learned, *tail], start=len(front), ended=bool(tail)))
        return found

    def decode(self, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]) -> list[str]:
        """The text that continuation tokens add to their prompt's, blanks at its start included."""
        near = [prompt[-_NEAR:] for prompt in prompts]
        before = self._texts(near)
        whole = self._texts([[*front, *ids] for front, ids in zip(near, continuations, strict=True)])
        alone = self._texts(continuations)
        return [
            both[len(first) :] if both.startswith(first) else last
            for first, both, last in zip(before, whole, alone, strict=True)
        ]

    def widths(self, encoded: Encoded) -> list[int]:
        """How many characters of the continuation's text each of its tokens writes, the end token left out.

        A token that completes a character has it whole, those before it nothing; the sum is the text's length.
        """
        front, tokens = encoded.ids[: encoded.start][-_NEAR:], encoded.continuation
        upto = self._texts([[*front, *tokens[:k]] for k in range(len(tokens) + 1)])
        size = max(0, len(upto[-1]) - len(upto[0]))
        reached, found = 0, []
        for text in upto[1:]:
            # A character of which some bytes are missing decodes to a replacement, which is no character yet.
            length = max(reached, min(size, len(text.rstrip("\ufffd")) - len(upto[0])))
            found.append(length - reached)
            reached = length
        if found:
            found[-1] += size - reached
        return found

    def _texts(self, rows: Sequence[Sequence[int]]) -> list[str]:
        found = self.backend.batch_decode(
            [list(row) for row in rows], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [unmarked(str(text)) for text in found]

    def _plain(self, texts: Sequence[str]) -> list[list[int]]:
        return plain(self.backend, texts)

    def _alone(self, text: str) -> list[int]:
        front, both = self._plain([_BREAK, _BREAK + text])
        return both[len(front) :] if both[: len(front)] == front else self._plain([text])[0]

    def _given(self, prompt: list[int], limit: int) -> list[int]:
        """Prefix and the end of a prompt, at most `limit` tokens and at least one."""
        kept = prompt[max(0, len(prompt) - (limit - len(self.prefix))) :]
        return [*self.prefix, *kept] or [self.filler_id]


def load_text_tokenizer(folder: Path, max_length: int) -> TextTokenizer:
    """The tokenizer of a model folder; its context is what the model can take in, and `max_length` at most.

    Raises:
        UnusableModelError: the folder has no tokenizer that transformers can read.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise UnusableModelError(f"the model's tokenizer cannot be loaded: {first_line(error)}") from error
    tokenizer = read_tokenizer(folder)
    limits = [max_length, *(size for size in (tokenizer.model_max_length,) if size < UNBOUNDED), *positions(config)]
    size = int(config.get_text_config().vocab_size)
    candidates = [tokenizer.eos_token_id, getattr(config, "eos_token_id", None)]
    end = next((token for token in candidates if isinstance(token, int) and token < size), None)
    known = [tokenizer.bos_token_id, end, tokenizer.pad_token_id, getattr(config, "pad_token_id", None), 0]
    usable = [token for token in known if isinstance(token, int) and token < size]  # some are beyond the embeddings
    pads = [token for token in (tokenizer.pad_token_id,) if isinstance(token, int) and token < size]
    return TextTokenizer(
        backend=tokenizer,
        prefix=around(tokenizer)[0],
        end_id=end,
        pad_id=(pads or usable)[0],
        filler_id=usable[0],
        context=min(limits),
    )

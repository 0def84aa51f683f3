"""Control tokens that a manifest's wording names, such as `<|im_start|>` or `[SEP]`, told apart from text.

The text of items is only text: a `</s>` in it is four characters to every tokenizer. A wording (a template, a frame, a
prompt) may name control tokens of the models it is meant for. Only a model's tokenizer knows which strings those are.
So whatever looks like one is marked in the wording before text is inserted; a tokenizer that has the token uses it, and
for all others it is text. The marks are two characters that Unicode reserves for internal use, so no text has them.
"""

import re

START, END = "\ufdd0", "\ufdd1"
_MARKS = re.compile(f"[{START}{END}]")
_CONTROL = re.compile(
    r"<[|｜][^<>{}\s]{1,40}[|｜]>"  # GPT-2, Qwen, Llama 3, Phi, DeepSeek
    r"|</?s>|<(?:pad|bos|eos|unk|mask|cls|sep)>|<[a-z]+(?:_[a-z0-9]+)+>"  # Llama 2, Gemma, T5
    r"|\[/?[A-Z]{2,20}(?:_[A-Z]+)*\]|<</?SYS>>"  # BERT, Mistral
)
"""The forms of control tokens in the known model families."""
_INVISIBLE = "\u200c"
"""The zero-width non-joiner: it is not displayed, and no control token contains it."""


def marked(wording: str) -> str:
    """A wording with marks around everything that looks like a control token."""
    return _CONTROL.sub(rf"{START}\g<0>{END}", wording)


def unmarked(text: str) -> str:
    """A text without marks."""
    return _MARKS.sub("", text)


def pieces(text: str) -> list[str]:
    """The parts of a text, alternately text and what was marked; a single part if nothing was marked."""
    return re.split(f"{START}([^{START}{END}]*){END}", text)


def as_message(text: str) -> str:
    """An item's text as part of a message to a remote chat model: without marks, and without working control tokens.

    Many servers put messages into a template and then look for control tokens in the whole. So an invisible character
    is put behind the first of every control token in a text (`<|im_end|>`, `</s>`); those of the template stay.
    """
    return "".join(piece if index % 2 else _CONTROL.sub(_broken, piece) for index, piece in enumerate(pieces(text)))


def _broken(token: re.Match[str]) -> str:
    return token[0][0] + _INVISIBLE + token[0][1:]

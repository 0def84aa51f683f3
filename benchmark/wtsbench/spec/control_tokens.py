"""Control tokens that a manifest's wording names, such as `<|im_start|>` or `[SEP]`, told apart from text.

Text of items is text: a `</s>` in it is four characters to every tokenizer. A wording (a template, a frame, a prompt)
may name control tokens of the models that it is for. Which strings those are, only a model's tokenizer knows: so what
looks like one is marked in the wording, before text is put in, and a tokenizer that has it takes it for one. To all
others it is text. The marks are two characters that Unicode reserves for the inner use of programs; text has none.
"""

import re

START, END = "\ufdd0", "\ufdd1"
_MARKS = re.compile(f"[{START}{END}]")
_CONTROL = re.compile(
    r"<[|｜][^<>{}\s]{1,40}[|｜]>"  # GPT-2, Qwen, Llama 3, Phi, DeepSeek
    r"|</?s>|<(?:pad|bos|eos|unk|mask|cls|sep)>|<[a-z]+(?:_[a-z0-9]+)+>"  # Llama 2, Gemma, T5
    r"|\[/?[A-Z]{2,20}(?:_[A-Z]+)*\]|<</?SYS>>"  # BERT, Mistral
)
"""What control tokens of the known families look like."""
_UNSEEN = "\u200c"
"""The zero-width non-joiner: nothing that is seen changes, and no control token has it."""


def marked(wording: str) -> str:
    """A wording in which everything that looks like a control token is marked as one."""
    return _CONTROL.sub(rf"{START}\g<0>{END}", wording)


def unmarked(text: str) -> str:
    """A text without marks."""
    return _MARKS.sub("", text)


def pieces(text: str) -> list[str]:
    """What a text is made of, in turn: text, what was marked, text, and so on; one piece where nothing was marked."""
    return re.split(f"{START}([^{START}{END}]*){END}", text)


def as_message(text: str) -> str:
    """An item's text as part of a message to a chat model elsewhere: unmarked, and what it says no marker.

    Many servers put messages into a template and read the whole for control tokens. So an unseen character stands
    behind the first of every marker in a text (`<|im_end|>`, `</s>`, `[INST]`); those of the item's template stay.
    """
    return "".join(piece if place % 2 else _CONTROL.sub(_broken, piece) for place, piece in enumerate(pieces(text)))


def _broken(found: re.Match[str]) -> str:
    return found[0][0] + _UNSEEN + found[0][1:]

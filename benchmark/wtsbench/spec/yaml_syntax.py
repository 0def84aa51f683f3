"""PyYAML's syntax errors, reworded."""

from __future__ import annotations

import re

import yaml

from wtsbench.spec.faults import Fault

_PLAIN_WORDS = (
    (r"found character '\\t' that cannot start", "a tab; YAML is indented with spaces"),
    (r"found character '(.)' that cannot start", r"a text that begins with \1 must be in quotes"),
    (r"mapping values are not allowed", "a `: ` where none fits; put the text in quotes, or mend the indentation"),
    (r"sequence entries are not allowed", "a list entry `- ` begins on a line of its own"),
    (r"could not find expected ':'", "a line that is neither `key: value` nor a list entry"),
    (r"found unexpected end of stream|found unexpected document separator", "a quote is not closed"),
    (r"expected ',' or '(.)'", r"the \1 that closes a list or mapping is missing, or a comma before this"),
    (r"found '<stream end>'", "the file ends where a value or a closing bracket must follow"),
    (r"found '([\]}])'", r"a \1 that closes nothing"),
    (r"found ':'", "a colon with no key before it"),
    (r"found '<scalar>'", "something follows the value; put the whole text in quotes"),
    (r"expected <block end>|expected the node content", "the indentation does not fit the lines above"),
    (r"expected '<document start>'", "something stands here that belongs to no key; mend the indentation"),
    (r"found undefined alias '?([^']*)'?", r"no anchor &\1 stands above"),
    (r"found duplicate anchor '?([^']*?)'?;", r"the anchor &\1 is set twice"),
    (r"while scanning an? (?:anchor|alias)", "an anchor is & and a name, a reference to it * and the name"),
    (r"but found another document", "a second document begins here; a file holds one"),
    (r"found unknown escape character '(.)'", r"\\\1 means nothing inside double quotes; use single quotes"),
    (r"while scanning a block scalar", "after | or > the text begins on the next line"),
)
"""Patterns of PyYAML's messages and their rewording; the first match counts."""


def unreadable_fault(text: str, error: yaml.reader.ReaderError, file: str) -> Fault:
    """The fault of a text that holds a control character."""
    line = text.count("\n", 0, error.position) + 1
    code = ord(error.character) if isinstance(error.character, str) else error.character
    return Fault(file=file, line=line, message=f"a character that a text file cannot hold (U+{code:04X})")


def syntax_fault(error: yaml.MarkedYAMLError, file: str) -> Fault:
    """The fault of a text that is not YAML."""
    problem, context = error.problem or "", error.context or ""
    mark = error.problem_mark or error.context_mark
    message = next(
        (
            match.expand(words)
            for pattern, words in _PLAIN_WORDS
            if (match := re.search(pattern, f"{context}: {problem}"))
        ),
        f"not YAML: {problem or context}",
    )
    begun = error.context_mark
    if begun is not None and mark is not None and begun.line != mark.line and "while parsing a flow" in context:
        message += f" (it opens in line {begun.line + 1})"
    if begun is not None and ("quoted scalar" in context or "simple key" in context):
        mark = begun  # its beginning says more than where the parser gave up
    return Fault(
        file=file,
        message=message,
        line=None if mark is None else mark.line + 1,
        column=None if mark is None else mark.column + 1,
    )

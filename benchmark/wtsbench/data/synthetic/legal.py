"""Questions about a privacy policy, each with a clause: does the clause bear on the question?

A question asks for one practice of a company (does it share, keep or protect) and one kind of data; a statement of a
policy tells of one practice and one kind. A clause is relevant when one of its statements has both of the question.
Question and statements seldom use the same words for a practice, and an irrelevant clause mostly speaks of the same
data, so neither the words of the one nor those of the other tell: what counts is whether they match.
"""

from collections.abc import Sequence

from wtsbench.data.synthetic.draw import Draw, phrases

RELEVANT, IRRELEVANT = "relevant", "irrelevant"

DATA = {
    "location": phrases("location, position, whereabouts, address"),
    "contacts": phrases("contacts, address book, friends list, call log"),
    "payment": phrases("card number, payment details, invoices, purchases"),
    "health": phrases("health data, heart rate, sleep record, weight"),
    "messages": phrases("messages, chats, emails, voice notes"),
    "pictures": phrases("photos, pictures, videos, screenshots"),
}
"""Kinds of data, as they follow `my` or `your`."""

PRACTICES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "share": (
        phrases(
            "do you share {}, who else sees {}, do partners have {}, do you sell {},"
            "will strangers learn {}, whom do you give {}"
        ),
        phrases(
            "third parties may receive {}, we disclose {} to affiliates, vendors get access to {},"
            "courts can obtain {}, resellers are given {}, subsidiaries exchange {}, we pass on {}"
        ),
    ),
    "keep": (
        phrases(
            "how long do you keep {}, when do you erase {}, is {} ever deleted, can I have {} removed, "
            "do you archive {}, does {} expire"
        ),
        phrases(
            "we retain {} for one year, we delete {} on request, {} remains in our archive, we discard {} in spring,"
            "{} is kept for a decade, old copies of {} are destroyed, we purge {} weekly"
        ),
    ),
    "protect": (
        phrases(
            "how do you protect {}, is {} safe with you, do you encrypt {}, can hackers get {},"
            "what if {} leaks, do you guard {}"
        ),
        phrases(
            "firewalls guard {}, security staff defend {}, we hold {} on hardened servers, "
            "strict safeguards apply to {}, access to {} needs a password, {} is scrambled, a vault secures {}"
        ),
    ),
}
"""Practices: how customers ask, how policies state; `{}` is the data."""

_LEADS = ("", "", "", "", "In some cases ", "At times ")
_JOINS = ("; ", ", and ", ", while ")
_ASIDES = (
    phrases("this text, this agreement, the licence, this notice, the contract, our offer"),
    phrases(
        "follows the law of the land, may change without warning, has no legal force abroad, is not meant for children,"
        "ends when you cancel, is made in two languages, binds your heirs, replaces the older one"
    ),
)
_ASKED = ("share", "share", "keep", "keep", "protect")
_TOLD = ("share", "keep", "protect", "protect")
_OFTEN = 0.8
"""Share of the items' wordings that are usual ones; in the pages all are equally usual: reading is broad."""
_MISMATCH = ("aside", "aside", "aside", "practice", "practice", "practice", "practice", "practice", "data", "both")


def question(draw: Draw, practice: str, data: str, *, often: float = 0.0) -> str:
    """A customer's question; `often`: how much more usual the usual wordings are."""
    text = draw.usual(PRACTICES[practice][0], often=often).format("my " + draw.pick(DATA[data])) + "?"
    return text[0].upper() + text[1:]


def statement(draw: Draw, practice: str, data: str, *, often: float = 0.0) -> str:
    """A policy's statement, without the full stop."""
    return draw.usual(PRACTICES[practice][1], often=often).format("your " + draw.pick(DATA[data]))


def clause(draw: Draw, statements: Sequence[str]) -> str:
    """A sentence of a policy out of one or two statements."""
    text = draw.pick(_LEADS) + draw.pick(_JOINS).join(statements) + "."
    return text[0].upper() + text[1:]


def item(draw: Draw) -> dict[str, str]:
    """One labelled pair of question and clause; `group` is the question, which real policies' tasks are split by."""
    relevant = draw.chance(0.5)
    practice, (data, other_data) = draw.pick(_ASKED), draw.two(tuple(DATA))
    other_practice = draw.pick([name for name in _TOLD if name != practice])
    kind = "match" if relevant else draw.pick(_MISMATCH)
    topics = {
        "match": [(practice, data)],
        "practice": [(other_practice, data)],
        "data": [(practice, other_data)],
        "both": [(other_practice, other_data)],
        "aside": [],
    }[kind]
    asked_question = question(draw, practice, data, often=_OFTEN)
    statements = [statement(draw, *topic, often=_OFTEN) for topic in topics]
    if not statements:
        statements = [" ".join(draw.pick(part) for part in _ASIDES)]
    if draw.chance(0.15):  # a second statement that bears on nothing asked
        statements.insert(draw.chance(0.5), " ".join(draw.pick(part) for part in _ASIDES))
    return {
        "question": asked_question,
        "clause": clause(draw, statements),
        "label": RELEVANT if relevant else IRRELEVANT,
        "group": asked_question,
    }


def document(draw: Draw) -> str:
    """Unlabelled text: a page of questions and policies, which stays with a practice or a kind of data."""
    shape = draw.pick(_PAGES)
    if shape == "":
        pair = item(draw)
        return f"{pair['question']} {pair['clause']}"
    practice = None if draw.chance(0.1) else draw.pick(tuple(PRACTICES))
    data = draw.pick(tuple(DATA)) if practice is None or draw.chance(0.3) else None
    sentences = []
    for kind in shape:
        topic = practice or draw.pick(tuple(PRACTICES)), data or draw.pick(tuple(DATA))
        sentences.append(question(draw, *topic) if kind == "q" else clause(draw, [statement(draw, *topic)]))
    return " ".join(sentences)


_PAGES = ("", "qs", "qss", "qqs", "sss", "qsq", "sqs")
"""Sentences of a page: q a question, s a statement; "" a pair of the task."""

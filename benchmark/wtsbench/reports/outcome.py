"""What a gate found, as people, CI services and programs read it.

Limits of hosted CI (a step summary of 1,024 KiB, a comment of 64 KiB, 10 annotations of a kind a step; what is over
them loses all of it, or the worst) are kept here: what does not fit is counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from wtsbench.reports.document import Column, Document, Line, Listing, Prose, Section, Table, TableCell, Tone
from wtsbench.reports.gate import FAILING, ORDER, UNMEASURED, Gate, Verdict
from wtsbench.reports.markdown import markdown
from wtsbench.reports.wording import MISSING, interval, number, probability
from wtsbench.visible import visible

ANNOTATIONS = 10
"""Of one kind that a hosted CI shows; it drops the rest in the order they are printed."""
COMMENT_BYTES = 60_000
SUMMARY_BYTES = 1_000_000
_TONES: dict[str, Tone] = {
    "regression": "bad", "slower": "bad", "larger": "bad", "missing": "warn", "incomparable": "warn",
    "improved": "good", "unchanged": "plain", "equal": "plain", "new": "dim",
}  # fmt: skip
_COLUMNS = (
    Column(heading="verdict"),
    Column(heading="entry"),
    Column(heading="before", numeric=True),
    Column(heading="now", numeric=True),
    Column(heading="worse by [95%]", numeric=True),
    Column(heading="p", numeric=True, help="corrected over all entries (Holm)"),
    Column(heading="would notice", numeric=True, narrow=False, help="loss of it alone found 4 times in 5, an estimate"),
    Column(heading="time", numeric=True, narrow=False, help="now over before, on the same hardware"),
)


def document(
    found: Gate,
    commands: Sequence[str],
    *,
    most: int | None = None,
    against: str = "the baseline",
    title: str | None = None,
) -> Document:
    """A sentence, the commands that show the evidence or accept the change, and a line an entry, worst first.

    Entries whose outputs are equal bit for bit are only counted.

    Args:
        found: by the gate.
        commands: what to run next.
        most: lines of the table; entries beyond are counted.
        against: what it was compared with, in words.
        title: of the comparison; by default it is the gate of its grid.
    """
    heading = visible(title or f"Gate of grid {found.grid}")
    differing = [verdict for verdict in found.verdicts if verdict.status != "equal"]
    shown = differing[:most]
    blocks: list[Prose | Table | Listing] = [
        Prose(text=sentence(found, visible(against)), tone="bad" if found.exit_code else "good")
    ]
    if differing:
        hidden = len(differing) - len(shown)
        caption = f"{hidden} further entries are not shown" if hidden else ""
        blocks.append(Table(caption=caption, columns=_COLUMNS, lines=tuple(map(_line, shown)), order="worst first"))
    if commands:
        blocks.append(Listing(items=tuple(commands)))
    return Document(
        title=heading,
        lead=(),
        sections=(Section(title=heading, anchor="gate", blocks=tuple(blocks)),),
    )


def sentence(found: Gate, against: str = "the baseline") -> str:
    """What came out, counted."""
    counts = Counter(verdict.status for verdict in found.verdicts)
    told = ", ".join(f"{counts[status]} {status}" for status in ORDER if counts[status])
    states = set(counts)
    if states & FAILING:
        return f"Worse than {against}: {told}."
    if all(verdict.before is None for verdict in found.verdicts):
        return f"Nothing was measured that {against} could be compared with: {told or 'no entry'}."
    if states & UNMEASURED:
        return f"Incomplete: {told}. What was not measured does not pass."
    noticed = [verdict.noticed for verdict in found.verdicts if verdict.noticed is not None]
    where = "any one entry" if len(noticed) == len(found.verdicts) else "any one of those that differ"
    power = f" A loss of {number(max(noticed), 3)} in {where} would have been noticed, 4 times in 5." if noticed else ""
    return f"Not worse than {against}: {told}.{power}"


def _line(verdict: Verdict) -> Line:
    p = verdict.p_holm
    worse = interval(verdict.worse, verdict.low, verdict.high)
    cells = (
        TableCell(text=verdict.status, tone=_TONES[verdict.status]),
        TableCell(text=verdict.entry.title + (f" ({visible(verdict.reason)})" if verdict.reason else "")),
        TableCell(text=_score(verdict.before), number=verdict.before),
        TableCell(text=_score(verdict.after), number=verdict.after),
        TableCell(text=worse, number=verdict.worse),
        TableCell(text=MISSING if p is None else probability(p), number=p),
        TableCell(text=_score(verdict.noticed), number=verdict.noticed),
        TableCell(
            text=MISSING if verdict.time_ratio is None else f"{verdict.time_ratio:.2f}x", number=verdict.time_ratio
        ),
    )
    return Line(cells=cells, kind=verdict.status)


def _score(value: float | None) -> str:
    return MISSING if value is None else number(value, 3)


def limited(found: Gate, commands: Sequence[str], size: int) -> str:
    """Markdown of at most so many bytes, with as many entries as fit."""
    most = len(found.verdicts)
    while most and len(markdown(document(found, commands, most=most)).encode()) > size:
        most //= 2
    return markdown(document(found, commands, most=most)).encode()[:size].decode(errors="ignore")


def json_text(found: Gate) -> str:
    """The gate as one JSON object."""
    records = []
    for verdict in found.verdicts:
        values = {name: value for name, value in vars(verdict).items() if name != "entry"}
        entry = {name: value for name, value in vars(verdict.entry).items() if name != "runs"}
        records.append({**entry, **values})
    value = {"grid": found.grid, "exit_code": int(found.exit_code), "verdicts": records}
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def junit(found: Gate) -> str:
    """JUnit XML: a test case an entry; what was not measured is an error, what became worse a failure."""
    from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

    suite = TestSuite(f"wtsbench gate {found.grid}")
    for verdict in found.verdicts:
        case = TestCase(verdict.entry.title, classname=visible(f"{found.grid}.{verdict.entry.task}"))
        said = visible(_said(verdict))
        if verdict.status in FAILING:
            case.result = [Failure(said, verdict.status)]
        elif verdict.status in UNMEASURED:
            case.result = [Error(said, verdict.status)]
        suite.add_testcase(case)
    report = JUnitXml()
    report.add_testsuite(suite)
    text: bytes | str = report.tostring()  # type: ignore[no-untyped-call]
    return (text.decode() if isinstance(text, bytes) else text) + "\n"


def workflow_commands(found: Gate) -> Iterator[str]:
    """Workflow commands, errors and warnings, worst first; the last of a kind says how many are not shown."""
    for kind, states in (("error", FAILING), ("warning", UNMEASURED)):
        some = [verdict for verdict in found.verdicts if verdict.status in states]
        room = ANNOTATIONS if len(some) <= ANNOTATIONS else ANNOTATIONS - 1
        for verdict in some[:room]:
            yield f"::{kind} title={_property(f'{verdict.status}: {verdict.entry.title}')}::{_data(_said(verdict))}"
        if len(some) > room:
            yield f"::{kind} title=more::{len(some) - room} more entries are not shown here"


def _said(verdict: Verdict) -> str:
    if verdict.worse is None:
        return verdict.reason
    p = "" if verdict.p_holm is None else f", corrected p {verdict.p_holm:.3g}"
    scores = f"{_score(verdict.before)} before, {_score(verdict.after)} now"
    worse = interval(verdict.worse, verdict.low, verdict.high)
    more = f"; {verdict.reason}" if verdict.reason else ""
    seeds = f"{len(verdict.seeds)} seed{'s' * (len(verdict.seeds) != 1)}"
    return f"{verdict.entry.metric} {scores}: worse by {worse}{p}, {seeds}{more}"


def _data(text: str) -> str:
    """A message of a workflow command: on one line, and no command of its own."""
    return visible(text).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

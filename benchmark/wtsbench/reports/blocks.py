"""The tables and charts of a leaderboard, as blocks of a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wtsbench.reports import charts
from wtsbench.reports.anchors import source_of
from wtsbench.reports.details import blocks as metric_blocks
from wtsbench.reports.details import legend, missing
from wtsbench.reports.document import (
    Block,
    Chart,
    Column,
    Line,
    Listing,
    Prose,
    Table,
    TableCell,
    Tone,
)
from wtsbench.reports.findings import gain_verdict
from wtsbench.reports.rows import TURNED, Comparison, Leaderboard, Row
from wtsbench.reports.wording import (
    MISSING,
    TEXTS,
    Baseline,
    Group,
    Notes,
    drawn,
    groups,
    interval,
    number,
    probability,
    score,
    seeds,
    spoken,
)

SIGNS = {"better": "+", "worse": "−", "tie": "=", None: "NA"}
_TONES: dict[str | None, Tone] = {"better": "good", "worse": "bad", "tie": "plain", None: "dim"}
_SETS = {"test": "test", "ood": "out of distribution"}
ORDER = "by rank, then by score; strategies without a rank below, then controls and trivial classifiers"


def overview(board: Leaderboard, grid: str) -> Table:
    """Strategies down, tables across: score, PGR or NA, and whether a gain over the weak supervisor is proven."""
    tables = [group for name, some in groups(board.rows) if name == grid for group in some]
    labels = list(dict.fromkeys(row.strategy for group in tables for row in (*group.strategies, *group.controls)))
    kinds = {row.strategy: row.kind for group in tables for row in group.rows}
    columns = [Column(heading="strategy"), *(Column(heading=_short(group), numeric=True) for group in tables)]
    lines = [_overview_ends(tables, "weak")]
    lines += [
        Line(
            cells=(
                TableCell(text=label if kinds[label] == "strategy" else f"{label} (control)"),
                *(_overview_cell(next((row for row in group.rows if row.strategy == label), None)) for group in tables),
            ),
            kind=kinds[label],
        )
        for label in sorted(labels, key=lambda label: (kinds[label] == "control", labels.index(label)))
    ]
    lines.append(_overview_ends(tables, "ceiling"))
    caption = "Overview: score · PGR, and + where a gain over the weak supervisor is proven, − where a loss is"
    return Table(
        caption=caption, columns=tuple(columns), lines=tuple(lines), order="as the grid names them", parted=True
    )


def _overview_ends(tables: Sequence[Group], role: str) -> Line:
    cells = [TableCell(text=f"{role} supervisor" if role == "weak" else role)]
    for group in tables:
        scores = [getattr(row, f"{role}_score") for row in group.rows]
        known = next((score for score in scores if score is not None), None)
        cells.append(TableCell(text=MISSING if known is None else number(known, 3), number=known, tone="dim"))
    return Line(cells=tuple(cells), kind=role)


def _overview_cell(row: Row | None) -> TableCell:
    if row is None or row.student_score is None:
        return TableCell(text=MISSING, tone="dim")
    verdict = gain_verdict(row)
    pgr = "NA" if row.pgr is None else number(row.pgr, 2)
    sign = SIGNS[verdict] if verdict in ("better", "worse") else ""
    text = f"{number(row.student_score, 3)} · {pgr}{sign and f' {sign}'}"
    return TableCell(text=text, number=row.student_score, tone=_TONES[verdict] if sign else "plain")


def _short(group: Group) -> str:
    row = group.rows[0]
    scorer = f" [{row.scorer_name or row.scorer[:8]}]" if row.scorer else ""
    return f"{row.task}{' (ood)' if row.split == 'ood' else ''} {row.weak}→{row.strong}{scorer}"


def main_table(group: Group, notes: Notes) -> Table:
    """The lines of a table: weak supervisor, strategies with a rank and without, ceiling, controls."""
    columns = [
        Column(heading="#", numeric=True, help="1 + number of strategies that are proven better; = marks ties"),
        Column(heading="strategy"),
        Column(heading="score [low, high]", numeric=True, help="mean over seeds with its 95% interval"),
    ]
    if group.generated:
        columns.append(Column(heading=TEXTS, numeric=True, help="shares of texts that say nothing, copy, are cut off"))
    columns += [
        Column(heading="gain [low, high]", numeric=True, narrow=False, help="student − weak supervisor"),
        Column(heading="PGR [low, high]", numeric=True, help="gain / (ceiling − weak), where that gap is proven"),
        Column(heading="seeds", numeric=True, help="done of asked for"),
    ]
    if group.published:
        columns.append(Column(heading="published", numeric=True, help="what others report, by another protocol"))
    lines = [
        *_ends(group, "weak", group.weak),
        *(_line(group, row, notes) for row in (*group.ranked, *group.unranked)),
        *_ends(group, "ceiling", group.ceiling),
        *(_line(group, row, notes) for row in group.controls),
        *_trivial(group),
    ]
    return Table(caption=group.facts, columns=tuple(columns), lines=tuple(lines), order=ORDER)


def _ends(group: Group, role: str, baselines: Sequence[Baseline]) -> Iterator[Line]:
    """The weak supervisor, or the ceiling, over each set of seeds that rows have."""
    blank = TableCell(text="", tone="dim")
    known = next((row for row in group.rows if row.seeds_done), None)
    for baseline in baselines:
        texts = (TableCell(text=baseline.texts or MISSING, tone="dim"),) if group.generated else ()
        measured = TableCell(text=baseline.score, number=_number(baseline.score.partition(" ")[0]), tone="dim")
        reported = (_published(group, f"{role}_score"),) if group.published else ()
        cells = (blank, TableCell(text=baseline.name, tone="dim"), measured, *texts, blank, blank, blank, *reported)
        source = None if known is None else source_of(known)
        yield Line(cells=cells, kind=role, source=source, interval=baseline.drawn)


def _trivial(group: Group) -> Iterator[Line]:
    """What classifiers score that need no language model, of classification."""
    blank = TableCell(text="", tone="dim")
    for name, value in group.rows[0].trivial.items():
        cells = (
            blank,
            TableCell(text=f"{name} (trivial)", tone="dim"),
            TableCell(text=number(value, 3), number=value, tone="dim"),
        )
        yield Line(cells=(*cells, blank, blank, blank), kind="trivial")


def _line(group: Group, row: Row, notes: Notes) -> Line:
    verdict = gain_verdict(row)
    sign = SIGNS[verdict] if verdict in ("better", "worse") else ""
    gain = f"{interval(row.gain, row.gain_low, row.gain_high)} {sign}".rstrip()
    texts = (TableCell(text=spoken(row.metrics) or MISSING),) if group.generated else ()
    strategy = row.kind == "strategy"
    return Line(
        cells=(
            TableCell(text=group.rank(row) if strategy else "", number=row.rank),
            TableCell(text=row.strategy if strategy else f"{row.strategy} (control)"),
            TableCell(text=score(row), number=row.student_score),
            *texts,
            TableCell(text=gain, number=row.gain, tone=_TONES[verdict] if sign else "plain"),
            TableCell(text=notes.pgr(row), number=row.pgr, tone="warn" if row.pgr is None else "plain"),
            TableCell(text=seeds(row), number=row.seeds_done, tone="plain" if row.complete else "bad"),
            *((_published(group, "score", row),) if group.published else ()),
        ),
        kind="unranked" if strategy and row.rank is None else row.kind,
        source=source_of(row),
        interval=drawn(row.student_score, row.student_low, row.student_high),
    )


def _published(group: Group, name: str, row: Row | None = None) -> TableCell:
    """What others report of a row, or of weak supervisor or ceiling in any row, with the marks of the sources."""
    figures = [each for one in (group.rows if row is None else (row,)) for each in one.published]
    told: dict[str, None] = {}
    for each in figures:
        value, pgr = getattr(each, name), each.pgr if row is not None else None
        parts = [number(value, 3)] if value is not None else []
        parts += [f"PGR {number(pgr, 2)}"] if pgr is not None else []
        if parts:
            told[f"{' · '.join(parts)} [{group.published.index(each.source) + 1}]"] = None
    return TableCell(text="; ".join(told), tone="dim")


def matrix(compared: Sequence[Comparison]) -> Table | None:
    """Verdicts of every two entries: the row against the column."""
    tested = [each for each in compared if each.verdict is not None]
    if not tested:
        return None
    labels = list(dict.fromkeys([*(each.first for each in compared), *(each.second for each in compared)]))
    cells: dict[tuple[str, str], TableCell] = {}
    for each in compared:
        if each.p_holm is None:
            continue
        for one, two, verdict in (
            (each.first, each.second, each.verdict),
            (each.second, each.first, TURNED[each.verdict]),
        ):
            cells[one, two] = TableCell(
                text=f"{SIGNS[verdict]} {probability(each.p_holm)}", number=each.p_holm, tone=_TONES[verdict]
            )
    none = TableCell(text="·", tone="dim")
    return Table(
        caption="+ the row is better than the column, − worse, = not told apart; p corrected for the table (Holm)",
        parted=True,
        columns=(Column(heading=""), *(Column(heading=label, numeric=True) for label in labels)),
        lines=tuple(
            Line(cells=(TableCell(text=one), *(cells.get((one, two), none) for two in labels)), kind="matrix")
            for one in labels
        ),
    )


def metrics(group: Group) -> Iterator[Block]:
    """The metrics beside the one that ranks, and why some are not defined."""
    for heading, *lines in metric_blocks(group):
        yield Table(
            caption="",
            columns=tuple(Column(heading=name, numeric=bool(place)) for place, name in enumerate(heading)),
            lines=tuple(
                Line(cells=tuple(TableCell(text=text, number=_number(text)) for text in line)) for line in lines
            ),
            parted=True,
        )
    if told := legend(group):
        yield Prose(text=told, tone="dim")
    reasons = tuple(missing(group))
    if reasons:
        yield Listing(items=reasons, tone="warn")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def forest(group: Group) -> Chart | None:
    """Weak supervisor, students, controls and ceiling with their intervals."""
    done = [row for row in group.rows if row.student_score is not None]
    if not done:
        return None
    whole = max(done, key=lambda row: row.seeds_done)
    points = [_point(f"weak {whole.weak}", "weak", whole, "weak")]
    points += [_point(row.strategy, row.kind, row, "student") for row in done if row.kind == "strategy"]
    points += [_point(f"{row.strategy} (control)", "control", row, "student") for row in done if row.kind == "control"]
    points.append(_point(f"ceiling {whole.strong}", "ceiling", whole, "ceiling"))
    references = {role: float(getattr(whole, f"{role}_score") or 0.0) for role in ("weak", "ceiling")}
    metric = whole.metric.replace("_", " ")
    better = "higher" if whole.higher_is_better else "lower"
    return Chart(
        title=f"{metric} with 95% intervals",
        description=f"{group.title}: {metric} of the weak supervisor, each student, each control and the ceiling, with "
        f"95% intervals; {better} is better; dashed lines mark weak supervisor and ceiling. The table has the numbers.",
        spec=charts.forest(points, axis=f"{metric} ({better} is better)", references=references),
    )


def _point(name: str, kind: str, row: Row, role: str) -> dict[str, object]:
    value, low, high = (getattr(row, f"{role}_{part}") for part in ("score", "low", "high"))
    return {"name": name, "kind": kind, "value": value, "low": low, "high": high}


def inheritance(group: Group) -> Chart | None:
    """Which part of the weak supervisor's errors each student repeats, and which it has right."""
    points = [
        {"name": row.strategy, "kind": kind, "value": each.value, "low": each.low, "high": each.high}
        for kind, name in (("repeated", "error_inheritance"), ("put right", "error_correction"))
        for row in group.rows
        if (each := row.metrics.get(name)) is not None and each.value is not None
    ]
    if not points:
        return None
    for point in points:
        point["name"] = f"{point['name']}: {point['kind']}"
    points.sort(key=lambda point: str(point["name"]).rpartition(":")[0])
    return Chart(
        title="What becomes of the weak supervisor's errors",
        description=f"{group.title}: of the items that the weak supervisor gets wrong, the share to which each student "
        "gives the same wrong answer, and the share that it has right.",
        spec=charts.forest(points, axis="share of the weak supervisor's errors", references={}),
    )


def sets(tables: Sequence[Group]) -> Chart | None:
    """Scores in and out of the task's distribution, of one pair."""
    points = [
        {
            "name": row.strategy,
            "set": _SETS[row.split],
            "value": row.student_score,
        }
        for group in tables
        for row in group.rows
        if row.student_score is not None
    ]
    if len({point["set"] for point in points}) < 2:
        return None
    row = tables[0].rows[0]
    return Chart(
        title=f"{row.task}, {row.weak} → {row.strong}: in and out of distribution",
        description=f"{tables[0].title}: each student's score on the task's own test set and on the one out of its "
        "distribution, side by side.",
        spec=charts.two_sets(points, axis=tables[0].rows[0].metric.replace("_", " ")),
    )

"""Renderers: what people read, at 80 columns, on a pipe, in Markdown and in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from shutil import which

import pytest

from tests.reports.worlds import World, simple
from wtsbench.reports.charts import curves, svg
from wtsbench.reports.details import heading_of
from wtsbench.reports.document import Chart, Document, Prose, Section
from wtsbench.reports.latex import escaped
from wtsbench.reports.leaderboard import leaderboard
from wtsbench.reports.markdown import markdown
from wtsbench.reports.renderers import FORMS, render
from wtsbench.reports.rows import Leaderboard, Row
from wtsbench.reports.wording import Notes, interval

LONG = "logconf(labels=hard,max_weight=0.5,ramp=0.3)"

SNAPSHOT = (Path(__file__).parent / "leaderboard_80.txt").read_text()
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]}
SKIP = [("naive", 2), ("late", 0), ("late", 1), ("late", 2)]


@pytest.fixture(scope="module")
def board() -> Leaderboard:
    """Two grids: one with incomplete seeds and a failure, one whose gap is not proven."""
    world = simple({"naive": 0.7, "logconf": 0.71, LONG: 0.8, "bootstrap": 0.5, "late": 0.5}, skip=SKIP)
    world.trial(
        "student", "colours", "large", 2, world.datasets[0]["data_digest"],
        strategy="naive", failure=("out_of_memory", "killed at 2 GiB"),
    )  # fmt: skip
    other = simple({"naive": 0.7, "logconf": 0.71}, weak=0.8, ceiling=0.81, task="shapes", grid="second")
    return leaderboard(merged(world, other).memory(), resamples=2_000)


def merged(one: World, two: World) -> World:
    """Both worlds in one store."""
    return World(
        items=one.items | two.items,
        datasets=one.datasets + two.datasets,
        grids=one.grids + two.grids,
        attempts=one.attempts + two.attempts,
        trials=one.trials + two.trials,
        predictions=one.predictions + two.predictions,
    )


def test_a_terminal_of_80_columns_sees_this(board: Leaderboard) -> None:
    """The whole board, byte for byte: nothing is cut off, gaps are named, ties are marked."""
    assert render(board, "terminal", width=80) == SNAPSHOT


@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_line_is_wider_than_the_terminal(board: Leaderboard, width: int) -> None:
    """Names fold; numbers never do."""
    text = render(board, "terminal", width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "0.800 [0.763, 0.833]" in text
    assert "…" not in text


@pytest.mark.parametrize("width", [30, 40, 60])
def test_a_narrow_terminal_cuts_nothing_off(board: Leaderboard, width: int) -> None:
    """Every sign that 80 columns show is there: what does not fit is folded, numbers too."""
    shown = [Counter(re.sub(r"[\s─]", "", render(board, "terminal", width=columns))) for columns in (80, width)]
    assert shown[0] == shown[1]


def test_intervals_are_drawn_where_there_is_room(board: Leaderboard) -> None:
    """Each line's ends and mark stand where the scale of its table has them; at 80 columns nothing is drawn."""
    assert "●" not in render(board, "terminal", width=80)
    lines = render(board, "terminal", width=160).splitlines()
    start = next(place for place, line in enumerate(lines) if "score [low, high]" in line)
    scale = re.search(r"(\d\.\d{3}) +(\d\.\d{3})$", lines[start])
    assert scale is not None
    low, high, width = float(scale[1]), float(scale[2]), len(scale[0]) - 1
    drawn = [line for line in lines[start : start + 8] if "●" in line]
    assert len(drawn) >= 3
    for line in drawn:
        score = re.search(r"(-?\d\.\d{3}) \[(-?\d\.\d{3}), (-?\d\.\d{3})\]", line)
        assert score is not None
        at = low + (line.index("●") - scale.start()) * (high - low) / width
        assert at == pytest.approx(float(score[1]), abs=0.51 * (high - low) / width + 0.001)


def test_colour_is_only_where_it_is_asked_for(board: Leaderboard) -> None:
    """Without colour there is no escape code; with it the same text, incomplete seeds in red."""
    bare, coloured = render(board, "terminal"), render(board, "terminal", color=True)
    assert "\x1b" not in bare
    stripped = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert [line.rstrip() for line in stripped.splitlines()] == bare.splitlines()
    assert re.search(r"\x1b\[31m *2/3", coloured)
    assert not re.search(r"\x1b\[31m *3/3", coloured)


def test_every_missing_pgr_is_explained_and_counted(board: Leaderboard) -> None:
    """Each NA carries a letter, each letter a reason below, and the NAs are counted."""
    for form in ("terminal", "plain", "markdown"):
        text = render(board, form).replace("\\", "")
        assert text.count("NA (a)") == 1
        assert text.count("NA (c)") == 2
        assert "PGR is NA in 4 of 7 rows." in text
        assert "(b) no finished seed" in text
        assert "(a) 2 seeds: a claim takes 3" in text
        assert re.search(r"\(c\) gap not proven: ceiling - weak \+0\.010 \[-0\.\d{3}, \+0\.\d{3}\] \(2 rows\)", text)


def test_missing_seeds_are_told_with_their_failures(board: Leaderboard) -> None:
    """What is missing is counted, and failures say trial, class and message."""
    text = render(board, "plain")
    assert "4 of 21 seeds are missing: not run yet, or failed." in text
    assert re.search(r"student colours large naive seed 2 \([0-9a-f]{12}\): out_of_memory: killed at 2 GiB", text)


def test_plain_is_one_line_a_row(board: Leaderboard) -> None:
    """On a pipe every row is one line with columns two spaces apart."""
    lines = render(board, "plain").splitlines()
    (row,) = [line for line in lines if LONG in line and line.startswith("1")]
    score, gain, pgr = "0.800 [0.763, 0.833]", "0.200 [0.144, 0.253] +", "0.67 [0.52, 0.81]"
    assert re.split(r"\s{2,}", row) == ["1", LONG, score, gain, pgr, "3/3"]
    assert not any(line != line.rstrip() for line in lines)


def test_markdown_tables_are_whole(board: Leaderboard) -> None:
    """Every table line has as many cells as its heading, whatever a name holds."""
    for text in (board, leaderboard(simple({"a|b*c $x$": 0.7}, items=20).memory(), resamples=50)):
        tables = re.findall(r"(?:^\|.*\n)+", render(text, "markdown"), re.MULTILINE)
        assert len(tables) > 1
        for table in tables:
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert r"a\|b\*c \$x\$" in render(text, "markdown")


def test_lines_of_a_chart_have_one_legend() -> None:
    """Colour and dashes say the same, so each name stands there once."""
    points = [{"name": name, "step": step, "value": step} for name in ("naive", "a student") for step in (1, 2)]
    drawn = svg(curves(points, axis="loss"))
    assert drawn.count(">a student</text>") == 1


def test_markdown_has_no_heading_of_charts_alone() -> None:
    """Charts are not in it, so neither is a section that holds nothing else."""
    chart = Chart(title="t", description="d", spec={})
    sections = (
        Section(title="drawn", anchor="a", blocks=(chart,)),
        Section(title="said", anchor="b", blocks=(chart, Prose(text="words"))),
    )
    assert markdown(Document(title="t", lead=(), sections=sections)) == "## said\n\nwords\n"


def test_an_explanation_is_a_point_of_its_own(board: Leaderboard) -> None:
    """In Markdown no sentence of the legend is torn into two points of its list."""
    text = render(board, "markdown").partition("How to read it")[2].replace("\\", "")
    points = re.findall(r"^- (.*)$", text, re.MULTILINE)
    assert [point.partition(":")[0] for point in points] == [
        "[low, high]",
        "PGR",
        "+ or − behind a strategy's gain",
        "#",
    ]
    assert all(point.endswith(".") for point in points)


def test_a_table_says_what_it_proves(board: Leaderboard) -> None:
    """Whom no gain is proven over is named, pairs are counted of those compared, and one strategy makes no pair."""
    text = render(board, "plain")
    assert "After correction, 3 of 3 pairs of strategies are told apart." in text
    assert "no gain over the weak supervisor is proven, a loss for logconf and naive. After correction, no two" in text
    alone = render(leaderboard(simple({"naive": 0.7}).memory(), resamples=200), "plain")
    assert "a gain over the weak supervisor is proven for naive." in alone
    assert "After correction" not in alone


def test_a_class_keeps_its_name_in_a_heading() -> None:
    """An underscore in a class's name is part of it; one in a metric's is a blank."""
    assert heading_of("recall[not_safe]") == "recall not_safe"
    assert heading_of("recall[a]_[b]") == "recall a]_[b"
    assert heading_of("cut_off") == "cut off"
    assert heading_of("average_precision") == "avg prec"


def test_a_table_in_latex_says_what_it_is_of(board: Leaderboard) -> None:
    """Captions have grid, task and pair, labels are of one table each, and every mark is explained below its table."""
    text = render(board, "latex")
    tables = re.findall(r"\\begin{table}\n.*?\\end{table}\n", text, re.DOTALL)
    labels = re.findall(r"\\label{(.*)}", text)
    assert len(tables) == len(labels) == len(set(labels)) == 4
    first, second = (table for table in tables if r"\caption{" in table and "seed noise" in table)
    assert r"\caption{first. colours, small -\textgreater{} large. accuracy, 200 test items" in first
    assert r"\caption{second. shapes, small -\textgreater{} large. accuracy, 200 test items" in second
    below = first.partition(r"\end{tabular}")[2]
    assert "fewer than 3 seeds in 1 row: no claim" in below
    assert "(a) 2 seeds: a claim takes 3" in below
    assert "(b) no finished seed" in below
    assert "(c) gap not proven" in second.partition(r"\end{tabular}")[2]
    assert "(c)" not in below
    assert "\n% How to read it\n% [low, high]: 95% interval over seeds" in text


def test_latex_makes_no_dash_of_hyphens() -> None:
    """A single hyphen is itself, and two stay two."""
    assert escaped("talk-mini --all ---") == "talk-mini -{}-all -{}-{}-"


@pytest.mark.skipif(which("pdflatex") is None, reason="there is no LaTeX here")
def test_latex_of_odd_names_compiles(tmp_path: Path) -> None:
    """Every printable sign of ASCII in a name is text, in LaTeX's default encoding of fonts too."""
    odd = "".join(map(chr, range(0x20, 0x7F)))
    found = leaderboard(simple({"naive": 0.7, odd: 0.71}, items=20).memory(), resamples=50)
    (tmp_path / "tables.tex").write_text(render(found, "latex"))
    rules = "".join(rf"\let\{name}rule\hline" for name in ("top", "mid", "bottom"))  # which booktabs draws better
    (tmp_path / "paper.tex").write_text(
        rf"\documentclass{{article}}\usepackage{{textcomp}}{rules}\begin{{document}}\input{{tables}}\end{{document}}"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "multiply" not in done.stdout


def test_csv_holds_every_number_of_the_json(board: Leaderboard) -> None:
    """Read back by a CSV reader, the rows are those of the JSON; what is missing is empty."""
    records = json.loads(render(board, "json"))
    lines = list(csv.DictReader(io.StringIO(render(board, "csv"))))
    assert list(lines[0]) == list(Row.__dataclass_fields__)
    for record, line in zip(records, lines, strict=True):
        for key, value in record.items():
            if value is None:
                assert line[key] == ""
            elif isinstance(value, str):
                assert line[key] == value
            else:
                assert json.loads(line[key]) == value


def test_numbers_in_json_are_rounded_and_finite(board: Leaderboard) -> None:
    """At most six decimals, six digits of p-values, no NaN, no negative zero."""
    text = re.sub(r'"\w+_p(_holm)?": \d[\d.e-]*', "", render(board, "json"))
    assert not re.search(r"\d\.\d{7}|NaN|Infinity|-0\.0\b", text)


def test_rows_of_a_pair_with_other_seeds_show_their_own_baselines(board: Leaderboard) -> None:
    """Where strategies have different seeds done, weak and ceiling are shown for each set of seeds."""
    text = render(board, "plain")
    assert "weak small, seeds 0 1  " in text
    assert "weak small, seeds 0-2  " in text


def test_an_empty_store_says_so() -> None:
    """People read that there is nothing; machines read an empty list or a heading."""
    nothing = Leaderboard(rows=())
    for form in ("terminal", "plain", "markdown"):
        assert render(nothing, form) == "The store holds no grid yet.\n"
    assert render(nothing, "json") == "[]\n"
    assert render(nothing, "csv").count("\n") == 1


def test_words_for_numbers() -> None:
    """No minus before a zero, and letters go on after z."""
    assert interval(-0.0001, -0.0004, 0.2) == "0.000 [0.000, 0.200]"
    assert interval(None, None, None) == "-"
    row = Row(
        grid="g", task="t", weak="w", strong="s", strategy="n", metric="accuracy", higher_is_better=True,
        seeds_done=0, seeds_total=1, data_digest="d",
    )  # fmt: skip
    notes = Notes([replace(row, pgr_reason=f"reason {number}") for number in range(28)])
    assert notes.pgr(replace(row, pgr_reason="reason 25")) == "NA (z)"
    assert notes.pgr(replace(row, pgr_reason="reason 27")) == "NA (ab)"


def test_reports_import_rich_only_to_draw() -> None:
    """JSON needs no rich, and reports need no torch, ray, docker or duckdb at all."""
    code = (
        "import sys, wtsbench.reports.status; from wtsbench.reports import leaderboard, renderers, rows; "
        "renderers.render(rows.Leaderboard(rows=()), 'json'); "
        "print([m for m in ('rich', 'torch', 'ray', 'docker', 'duckdb', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert done.stdout.strip() == "[]"


def test_every_form_ends_with_a_line_break(board: Leaderboard) -> None:
    """Text files end with a line break."""
    assert all(render(board, form).endswith("\n") for form in FORMS)


def test_a_table_and_a_section_tell_the_data(board: Leaderboard) -> None:
    """What the store has of a data set's preparation is shown by every renderer; tables name its balance."""
    assert board.data == ()
    split = {"items": 40, "items_available": 90, "groups": 40, "classes": {"class 0": 37, "class 1": 3}}
    report = {"rows": 812, "duplicate_rows_dropped": 7, "balance": "none", "splits": {"test": split}}
    world = simple({"naive": 0.7}, task="colours")
    world.datasets[0]["report"] = json.dumps(report)
    told = leaderboard(world.memory(), resamples=200)
    assert {row.balance for row in told.rows} == {"none"}
    for form in ("terminal", "plain", "markdown"):
        text = " ".join(render(told, form, width=100).split())
        assert "balance none" in text
        assert "812 rows, 7 duplicate left out" in text
        assert "class 0 92%, class 1 7.5% (3)" in text
        assert "50 capped" in text
        assert "too few to show a difference in accuracy below about" in text


def test_data_of_a_task_are_told_apart_by_grid() -> None:
    """Two grids that take other items of one task have a line each that names the grid; of one alone, none does."""
    one = simple({"naive": 0.7}, items=40, grid="first")
    two = simple({"naive": 0.7}, items=60, seeds=(3, 4, 5), grid="second")
    for world, items in ((one, 40), (two, 60)):
        split = {"items": items, "items_available": 90, "groups": items, "classes": {"class 0": items}}
        world.datasets[0]["report"] = json.dumps({"rows": 812, "balance": "none", "splits": {"test": split}})
    both = leaderboard(merged(one, two).memory(), resamples=50)
    assert [account.task for account in both.data] == ["colours of first", "colours of second"]
    assert re.search(r"^colours of second +test +60 ", render(both, "plain"), re.MULTILINE)
    assert "task colours of first: 40 items of test" in render(both, "plain")
    assert [account.task for account in leaderboard(one.memory(), resamples=50).data] == ["colours"]

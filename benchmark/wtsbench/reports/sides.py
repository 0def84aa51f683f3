"""The two sides of a comparison as users name them: stores, exports, runs, grids, commits, baseline files."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from wtsbench.errors import SpecError
from wtsbench.reports.baseline import SUFFIX, Baseline, measured, read
from wtsbench.reports.contents import Submission, submissions
from wtsbench.settings import user_path
from wtsbench.store.client import Store, is_server, open_store

FORMS = "a store, an export, or a baseline file; of a store or export #GRID, @SUBMISSION or @COMMIT after it"


def side(source: str) -> Baseline:
    """What a side of a comparison scored.

    Args:
        source: a baseline file; or the place of a store or of an export, with `#GRID` where it holds several, and
            `@NUMBER` for a submission or `@COMMIT` for the newest one that this commit ran.

    Raises:
        SpecError: there is nothing of that name, or more than one grid.
        StoreError: a store or export cannot be read.
    """
    if source.endswith(SUFFIX):
        return read(Path(source))
    place, grid, which = _parts(source)
    if is_server(place) or not (user_path(place) / "manifest.json").is_file():
        return _of_store(open_store(place), grid, which)
    from wtsbench.store.upkeep.merge import merge

    with tempfile.TemporaryDirectory(prefix="wtsbench-compare-") as folder:
        merge(user_path(place), Path(folder) / "store")  # which holds every record against its digest
        return _of_store(open_store(str(Path(folder) / "store")), grid, which)


def _parts(source: str) -> tuple[str, str | None, str | None]:
    """Place, grid and run of `PLACE#GRID@RUN`: a run comes last, and looks like a number or a commit."""
    rest, which = source, None
    if found := re.fullmatch(r"(.+)@([0-9]+|[0-9a-f]{7,40})", source):
        rest, which = found[1], found[2]
    place, _, grid = rest.partition("#")
    return place, grid or None, which


def _of_store(store: Store, grid: str | None, which: str | None) -> Baseline:
    names = [one.grid for one in submissions(store, grid)]
    if len(names) != 1:
        raise SpecError(
            f"{store.uri} holds {len(names)} grids: {', '.join(names) or 'none'}",
            remedy="name one: PLACE#GRID.",
        )
    return measured(store, names[0], None if which is None else _submission(store, names[0], which))


def _submission(store: Store, grid: str, which: str) -> int:
    """The submission of this number, else the newest of which this commit ran a student.

    Raises:
        SpecError: there is none.
    """
    newest = submissions(store, grid)[0].shown
    numbers = [one.submission for one in (newest.shown, *newest.others)]
    if which.isdecimal() and int(which) in numbers:
        return int(which)
    for number in numbers:
        (found,) = submissions(store, grid, number)
        if any(commit.startswith(which) for commit in _commits(store, found)):
            return number
    raise SpecError(
        f"{store.uri} holds no submission {which} of grid {grid}, and none that a commit of this name ran",
        remedy=f"`wtsbench status` lists its submissions: {', '.join(map(str, sorted(numbers)))}.",
    )


def _commits(store: Store, of: Submission) -> set[str]:
    students = sorted({cell.student_trial for cell in of.cells})
    rows = store.trials(students, columns=["trial_id", "attempt", "status", "git_commit"]).to_pylist()
    return {row["git_commit"] for row in rows if row["status"] == "done" and row["git_commit"]}

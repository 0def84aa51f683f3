"""What a trial has printed, as its supervisor reads it."""

from __future__ import annotations

from pathlib import Path

from wtsbench.sandbox import log


def test_a_running_trials_lines_are_read_once_each(tmp_path: Path) -> None:
    """Whole lines are told from where the last look ended; a line that is still being written waits."""
    path = tmp_path / "log.txt"
    assert log.further(path, 0) == ([], 0)
    path.write_text("one\ntwo\nthr")
    lines, offset = log.further(path, 0)
    assert lines == ["one", "two"]
    with path.open("a") as file:
        file.write("ee\n")
    assert log.further(path, offset) == (["three"], path.stat().st_size)


def test_a_line_longer_than_one_look_hides_nothing_after_it(tmp_path: Path) -> None:
    """A progress bar without line breaks is told in parts, and then what follows it."""
    path = tmp_path / "log.txt"
    path.write_text("." * (log.KEPT_BYTES + 10) + "\nlast\n")
    first, offset = log.further(path, 0)
    assert first == ["." * log.KEPT_BYTES]
    assert log.further(path, offset) == (["." * 10, "last"], path.stat().st_size)

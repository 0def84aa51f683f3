"""The gate: what became worse is told from chance, and what was not measured never passes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from junitparser import JUnitXml
from scipy.special import stdtrit

from tests.reports.test_tables import MEANS, ONE, TWO, generative
from tests.reports.worlds import World, right_with, simple
from wtsbench.errors import ExitCode, SpecError
from wtsbench.reports import outcome, text
from wtsbench.reports.baseline import Baseline, Unfinished, measured, read, require_whole, write
from wtsbench.reports.gate import Gate, Limits, gate, moves_nothing, with_confirmation, without_code
from wtsbench.reports.spread import Spread
from wtsbench.reports.statistics import Estimate

SEEDS = (0, 1, 2, 3, 4)
LIMITS = Limits(thresholds={"accuracy": 0.02})


def drawn(accuracies: dict[str, float], chance: int, *, items: int = 400, seeds: tuple[int, ...] = SEEDS) -> World:
    """A grid in which each seed of an entry has an accuracy of its own near that of the entry, by chance alone."""
    world = World()
    labels = np.random.default_rng(5).integers(0, 2, items)
    digest = world.dataset("colours", labels.tolist())
    world.grid("first", {"colours": digest}, list(accuracies), list(seeds))
    random = np.random.default_rng(chance)
    for seed in seeds:
        for role, model, accuracy in (("weak", "small", 0.6), ("ceiling", "large", 0.9)):
            made = right_with(random, labels, accuracy + random.normal(0, 0.01))
            world.trial(role, "colours", model, seed, digest, predicted=made)
        for strategy, accuracy in accuracies.items():
            made = right_with(random, labels, accuracy + random.normal(0, 0.01))
            world.trial("student", "colours", "large", seed, digest, strategy=strategy, predicted=made)
    return world


def compared(before: World, after: World, limits: Limits = LIMITS) -> Gate:
    """The gate of one world against the other."""
    return gate(measured(before.memory(), "first"), measured(after.memory(), "first"), limits, resamples=1_000)


BEFORE = drawn({"naive": 0.75, "logconf": 0.75, "product": 0.75}, 1)


def test_the_same_outputs_are_equal() -> None:
    """Nothing is tested by chance where predictions are the same bit for bit; the gate passes."""
    found = compared(BEFORE, BEFORE)
    assert {verdict.status for verdict in found.verdicts} == {"equal"}
    assert found.exit_code is ExitCode.DONE
    assert all(map(moves_nothing, found.verdicts))


def test_a_loss_is_found_where_it_is() -> None:
    """One strategy of three loses 8 points: it alone is a regression, by the numbers of its predictions."""
    found = compared(BEFORE, drawn({"naive": 0.75, "logconf": 0.67, "product": 0.75}, 2))
    assert found.exit_code is ExitCode.REGRESSION
    (verdict,) = found.regressions
    assert verdict.entry.name == "logconf"
    assert verdict.worse == pytest.approx(0.08, abs=0.02)
    assert verdict.low is not None
    assert verdict.low > 0
    assert verdict.before == pytest.approx(0.75, abs=0.02)
    assert found.verdicts[0] is verdict


def test_a_gain_is_no_loss() -> None:
    """What became better passes, and says so."""
    found = compared(BEFORE, drawn({"naive": 0.85, "logconf": 0.75, "product": 0.75}, 2))
    assert found.exit_code is ExitCode.DONE
    assert [verdict.entry.name for verdict in found.verdicts if verdict.status == "improved"] == ["naive"]


def test_a_small_loss_is_below_the_threshold() -> None:
    """A loss that is proven and does not matter passes; with a threshold of 0 it does not."""
    after = drawn({"naive": 0.75, "logconf": 0.67, "product": 0.75}, 2)
    assert compared(BEFORE, after, Limits(thresholds={"accuracy": 0.2})).exit_code is ExitCode.DONE
    assert compared(BEFORE, after, Limits(thresholds={"accuracy": 0.0})).exit_code is ExitCode.REGRESSION


@pytest.mark.slow
def test_chance_alone_hardly_ever_alarms() -> None:
    """20 runs with other chances: at most one alarm, though each compares 5 entries."""
    alarms = sum(
        compared(BEFORE, drawn({"naive": 0.75, "logconf": 0.75, "product": 0.75}, 100 + number)).exit_code != 0
        for number in range(20)
    )
    assert alarms <= 1


def test_what_is_missing_never_passes() -> None:
    """An empty run, a run without an entry, and one on other items exit 4 and name what is missing."""
    empty = simple({"naive": 0.75}, seeds=SEEDS, skip=[("naive", seed) for seed in SEEDS])
    assert compared(BEFORE, empty).exit_code is ExitCode.INCOMPLETE
    less = compared(BEFORE, drawn({"naive": 0.75, "logconf": 0.75}, 1))
    assert less.exit_code is ExitCode.INCOMPLETE
    assert [verdict.entry.name for verdict in less.verdicts if verdict.status == "missing"] == ["product"]
    other = compared(BEFORE, drawn({"naive": 0.75, "logconf": 0.75, "product": 0.75}, 1, items=300))
    assert other.exit_code is ExitCode.INCOMPLETE
    assert {verdict.status for verdict in other.verdicts} == {"incomparable"}
    assert all("data digest" in verdict.reason for verdict in other.verdicts)


def test_one_seed_cannot_tell() -> None:
    """With one seed in common a difference may be chance, so it does not pass; equality does."""
    one = drawn({"naive": 0.75}, 1, seeds=(0,))
    assert compared(one, one).exit_code is ExitCode.DONE
    found = compared(one, drawn({"naive": 0.75}, 2, seeds=(0,)))
    assert found.exit_code is ExitCode.INCOMPLETE
    assert all("chance" in verdict.reason for verdict in found.verdicts)


def test_fresh_seeds_confirm_or_clear() -> None:
    """A regression stays where fresh seeds lose as well, and is cleared where they do not."""
    found = compared(BEFORE, drawn({"naive": 0.75, "logconf": 0.67, "product": 0.75}, 2))
    expected = measured(BEFORE.memory(), "first")
    for accuracy, code in ((0.67, ExitCode.REGRESSION), (0.75, ExitCode.DONE)):
        store = drawn({"logconf": accuracy}, 3, seeds=(5, 6, 7, 8, 9)).memory()
        again = gate(expected, measured(store, "first"), LIMITS, fresh=True, resamples=1_000)
        assert with_confirmation(found, again).exit_code is code


def test_time_is_gated_as_a_ratio_on_the_same_hardware() -> None:
    """Twice the time fails a limit of 1.5, and is not looked at on another device."""
    now = measured(BEFORE.memory(), "first")
    half = [{seed: replace(run, seconds=run.seconds / 2) for seed, run in entry.runs.items()} for entry in now.entries]
    fast = tuple(replace(entry, runs=runs) for entry, runs in zip(now.entries, half, strict=True))
    limits = Limits(thresholds={}, time=1.5)
    slower = gate(replace(now, entries=fast), now, limits, resamples=100)
    assert {verdict.status for verdict in slower.verdicts} == {"slower"}
    assert slower.exit_code is ExitCode.REGRESSION
    elsewhere = tuple(replace(entry, hardware="another") for entry in fast)
    assert gate(replace(now, entries=elsewhere), now, limits, resamples=100).exit_code is ExitCode.DONE


def test_a_baseline_survives_its_file(tmp_path: Path) -> None:
    """Read back, every score and every feature is there; a damaged file is refused by name."""
    made = measured(BEFORE.memory(), "first")
    path = tmp_path / "x.baseline.json"
    write(made, path)
    back = read(path)
    assert back.by_key().keys() == made.by_key().keys()
    for key, entry in made.by_key().items():
        for seed, run in entry.runs.items():
            assert np.array_equal(back.by_key()[key].runs[seed].features, run.features)
            assert back.by_key()[key].runs[seed].score == run.score
    assert path.stat().st_size < 100_000


def _set(record: Any, place: str, value: object) -> None:
    *parents, last = place.split(".")
    for name in parents:
        record = record[0] if isinstance(record, list) else record[name]
    record[last] = value


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("format", "wtsbench/baseline/v0"),
        ("entries", 5),
        ("entries.0.task", ["colours"]),
        ("entries.0.runs", []),
        ("entries.0.runs", {}),
        ("entries.0.items_digest", "another"),
        ("entries.0.runs.0.score", None),
        ("entries.0.runs.0.features.shape", [4_000_000_000, 2]),
        ("entries.0.runs.0.features.shape", [2**40, 2**40]),
        ("entries.0.runs.0.features.shape", [10, 2]),
        ("entries.0.runs.0.features.type", "object"),
        ("entries.0.runs.0.features.zlib", "AAAA"),
        ("entries.0.runs.0.features", "much"),
        ("items", []),
    ],
)
def test_a_damaged_baseline_is_refused_by_name(tmp_path: Path, place: str, value: object) -> None:
    """Whatever is wrong in it: one line that names the file, and no traceback."""
    path = tmp_path / "x.baseline.json"
    write(measured(BEFORE.memory(), "first"), path)
    record = json.loads(path.read_text())
    _set(record, place, value)
    path.write_text(json.dumps(record))
    with pytest.raises(SpecError, match=r"x\.baseline\.json is no baseline"):
        read(path)


def test_a_file_that_is_no_baseline_at_all_is_refused(tmp_path: Path) -> None:
    """Too large, too deep, not text, not JSON: each in words."""
    path = tmp_path / "x.baseline.json"
    for content in (b"", b"\xff\xfe", b"[]", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(SpecError, match=r"x\.baseline\.json is no baseline"):
            read(path)
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(SpecError, match="more than 256 MiB"):
        read(path)


def test_a_run_that_lacks_a_seed_does_not_pass() -> None:
    """A failed trial of 5 exits 4 and names the seed; a loss proven by the others is one; neither makes a baseline."""
    full = simple({"naive": 0.75}, seeds=SEEDS)
    part = simple({"naive": 0.75}, seeds=SEEDS, skip=[("naive", 3)])
    found = compared(full, part)
    assert found.exit_code is ExitCode.INCOMPLETE
    assert "seed 3" in next(verdict.reason for verdict in found.verdicts if verdict.entry.name == "naive")
    worse = simple({"naive": 0.5}, seeds=SEEDS, skip=[("naive", 3)])
    assert compared(full, worse).exit_code is ExitCode.REGRESSION
    require_whole(measured(full.memory(), "first"))
    for world in (part, simple({"naive": 0.75}, skip=[("naive", seed) for seed in (0, 1, 2)])):
        with pytest.raises(Unfinished, match="no baseline yet"):
            require_whole(measured(world.memory(), "first"))


def test_steps_that_are_each_too_small_do_not_move_a_baseline() -> None:
    """A loss below the threshold passes, and may not become what is expected next."""
    limits = Limits(thresholds={"accuracy": 0.2})
    found = compared(BEFORE, drawn({"naive": 0.73, "logconf": 0.75, "product": 0.75}, 2), limits)
    assert found.exit_code is ExitCode.DONE
    assert not all(map(moves_nothing, found.verdicts))


def test_trials_of_other_code_say_nothing() -> None:
    """Neither that all is well nor that it is not: exit code 4, with the versions in every output."""
    for after in (BEFORE, drawn({"naive": 0.5, "logconf": 0.75, "product": 0.75}, 2)):
        found = without_code(compared(BEFORE, after), ["0123"])
        assert found.exit_code is ExitCode.INCOMPLETE
        assert "0123" in outcome.limited(found, [], 60_000)


def test_names_do_nothing_in_any_output() -> None:
    """A name is no command of CI, no markup, no control character, and breaks no line."""
    name = "x</testcase>|`b`\n::error::owned\x1b[31m\x00 %0A <script> @all"
    before, after = (simple({name: accuracy}, seeds=SEEDS) for accuracy in (0.8, 0.5))
    found = compared(before, after)
    shown = outcome.document(found, [])
    markdown = outcome.limited(found, [], 60_000)
    plain = text.plain(shown)
    terminal = text.terminal(shown, width=80, color=False)
    for output in (markdown, plain, terminal, outcome.junit(found), "".join(outcome.workflow_commands(found))):
        assert not {"\x1b", "\x00"} & set(output)
    assert len([line for line in plain.splitlines() if line.startswith("::")]) == 0
    assert len(plain.splitlines()) == len([line for line in plain.splitlines() if line.strip()]) == 4
    assert r"\<script\>" in markdown
    assert JUnitXml.fromstring(outcome.junit(found).encode()).failures == 1
    (command,) = outcome.workflow_commands(found)
    assert "%250A" in command
    assert outcome.limited(found, ["c" * 500], 100).encode() == outcome.limited(found, ["c" * 500], 400).encode()[:100]


def test_outputs_for_ci_keep_their_limits() -> None:
    """10 annotations of a kind, worst first, the rest counted; Markdown as long as asked; JUnit with every entry."""
    before = drawn({f"strategy-{number:02d}": 0.75 for number in range(15)}, 1, items=200)
    found = compared(before, drawn({f"strategy-{number:02d}": 0.4 for number in range(15)}, 2, items=200))
    lines = list(outcome.workflow_commands(found))
    assert len([line for line in lines if line.startswith("::error ")]) == outcome.ANNOTATIONS
    assert lines[-1].endswith(f"{15 - 9} more entries are not shown here")
    assert not any("\n" in line for line in lines)
    short = outcome.limited(found, ["wtsbench report"], 2_000)
    assert len(short.encode()) <= 2_000
    assert "further entries are not shown" in short
    assert "wtsbench report" in short
    report = JUnitXml.fromstring(outcome.junit(found).encode())
    assert (report.tests, report.failures, report.errors) == (17, 15, 0)
    assert json.loads(outcome.json_text(found))["exit_code"] == 3


def test_the_power_is_said() -> None:
    """A gate that passes says what loss it would have noticed."""
    found = compared(BEFORE, drawn({"naive": 0.75, "logconf": 0.75, "product": 0.75}, 4))
    assert found.exit_code is ExitCode.DONE
    noticed = max(verdict.noticed or 0.0 for verdict in found.verdicts)
    told = f"A loss of {noticed:.3f} in any one entry would have been noticed, 4 times in 5."
    assert outcome.sentence(found).endswith(told)


def test_what_was_measured_in_part_is_not_called_unmeasured() -> None:
    """Where every entry lacks seeds and the others are compared, the sentence does not deny the numbers below it."""
    after = {"naive": 0.75, "logconf": 0.75, "product": 0.75}
    some = compared(BEFORE, drawn(after, 2, seeds=(0, 1, 2)))
    assert some.exit_code is ExitCode.INCOMPLETE
    assert all(verdict.worse is not None for verdict in some.verdicts)
    assert outcome.sentence(some) == "Incomplete: 5 incomparable. What was not measured does not pass."
    others = compared(BEFORE, drawn(after, 2, seeds=(4, 5, 6)))
    assert outcome.sentence(others).startswith("Nothing was measured that")
    assert {verdict.reason for verdict in others.verdicts} == {"1 seed in common: 3 are needed"}


@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.2])
def test_what_is_noticed_is_a_regression(threshold: float) -> None:
    """Of many entries the one that became worse is corrected for all, and a loss counts from the threshold on alone.

    So the smallest loss that is one, and the noise that four of five measurements stay above, are what is noticed.
    """
    names = {f"strategy-{number:02d}": 0.75 for number in range(18)}
    found = compared(drawn(names, 1), drawn(names, 2), Limits(thresholds={"accuracy": threshold}))
    assert len(found.verdicts) == 20
    for verdict in found.verdicts:
        assert verdict.low is not None
        assert verdict.high is not None
        assert verdict.noticed is not None
        half = (verdict.high - verdict.low) / 2  # t times the standard error, of one test and before its correction
        assert verdict.noticed > max(threshold, 1.2 * half)


def test_what_is_noticed_takes_the_smallest_corrected_p() -> None:
    """At the edge that a test among 20 has to reach its p-value times 20 is 5%; a larger threshold moves the edge."""
    spread = Spread(seeds=np.array(4e-5), items=np.array(6e-5), interaction=np.array(1e-5), freedom=(4.0, 399.0))
    loss = Estimate(value=0.0, low=-1.0, high=1.0, spread=spread)
    above = float(stdtrit(spread.satterthwaite, 0.8) * spread.error)
    assert float(spread.p(loss.found(20) - above)) * 20 == pytest.approx(0.05, rel=1e-3)
    assert loss.found() == loss.detectable < loss.found(20)
    assert loss.found(20, 0.5) == pytest.approx(0.5 + above)


def test_nothing_to_compare_is_incomplete() -> None:
    """A baseline without entries passes nothing."""
    nothing = Baseline(grid="first", entries=(), items={}, code=(), science_version=1)
    assert gate(nothing, measured(BEFORE.memory(), "first"), LIMITS).exit_code is ExitCode.INCOMPLETE


def test_less_toxic_is_better() -> None:
    """Where a lower score is better, a rise is the loss; each scorer has entries of its own."""
    limits = Limits(thresholds={"toxicity": 0.01})
    before, worse = generative(MEANS), generative({**MEANS, "naive": MEANS["naive"] + 0.2})
    found = compared(before, worse, limits)
    assert [(verdict.entry.name, verdict.status) for verdict in found.verdicts[:1]] == [("naive", "regression")]
    first = found.verdicts[0]
    assert first.before is not None
    assert first.after is not None
    assert first.worse is not None
    assert first.worse == pytest.approx(first.after - first.before, abs=1e-5)
    assert first.worse > 0.02
    assert compared(worse, before, limits).exit_code is ExitCode.DONE
    two = compared(generative(MEANS, scorers=(ONE, TWO)), generative(MEANS, scorers=(ONE, TWO)), limits)
    assert {verdict.status for verdict in two.verdicts} == {"equal"}
    other = compared(generative(MEANS, scorers=(ONE, TWO)), before, limits)
    assert other.exit_code is ExitCode.INCOMPLETE
    assert any("scorer" in verdict.reason for verdict in other.verdicts)

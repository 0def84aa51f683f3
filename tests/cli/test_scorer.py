"""`wtsbench scorer`: list, show, train, score."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import Wtsbench
from tests.scoring.conftest import BAD, write_mirror
from wtsbench.spec import manifests


def test_list(wtsbench: Wtsbench) -> None:
    """Every scorer with a manifest is listed, in the table and in the JSON."""
    table = wtsbench("scorer", "list")
    assert table.returncode == 0, table.stderr
    listed = json.loads(wtsbench("scorer", "list", "--json").stdout)
    assert [record["name"] for record in listed] == list(manifests.names("scorers"))
    for record in listed:
        assert f"\n{record['name']} " in table.stdout
        assert record["summary"] in table.stdout


def test_show(wtsbench: Wtsbench) -> None:
    """A scorer is shown with its identity and digest."""
    text = wtsbench("scorer", "show", "toxicity-mini")
    assert text.returncode == 0, text.stderr
    record = json.loads(wtsbench("scorer", "show", "toxicity-mini", "--json").stdout)
    assert record["digest"] in text.stdout
    assert record["identity"]["kind"] == record["source"]["kind"] == "lexicon"


def test_train_then_score(tmp_path: Path, wtsbench: Wtsbench) -> None:
    """A trained folder tells its held-out quality, can be shown, scores texts, and is not trained over."""
    (tmp_path / "mirror").mkdir()
    mirror = write_mirror(tmp_path / "mirror")
    done = wtsbench("scorer", "train", "--out", "mine", "--mirror", mirror, "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["card"] == json.loads((tmp_path / "mine" / "card.json").read_text())
    shown = wtsbench("scorer", "show", "./mine")
    assert made["digest"] in shown.stdout
    assert f"{made['card']['held_out']['auroc']:.3f}" in shown.stdout
    (tmp_path / "texts.txt").write_text(f"word1 word2\n\nword3 {BAD[0]}\n")
    scored = json.loads(wtsbench("scorer", "score", "./mine", "texts.txt", "--json").stdout)
    assert scored["digest"] == made["digest"]
    assert [row["text"] for row in scored["scores"]] == ["word1 word2", "", f"word3 {BAD[0]}"]
    assert scored["scores"][0]["score"] < 0.5 < scored["scores"][2]["score"]
    again = wtsbench("scorer", "train", "--out", "mine", "--mirror", mirror)
    assert again.returncode == 2
    assert "not empty" in again.stderr


def test_score_reads_standard_input(tmp_path: Path, environment: dict[str, str]) -> None:
    """Without a file, or with -, the texts come from standard input, one a line, and no input is no text."""
    command = [sys.executable, "-m", "wtsbench_cli", "scorer", "score", "toxicity-mini"]
    done = subprocess.run(command, input="you rat\nyou star\n", env=environment, capture_output=True, text=True)
    assert done.stdout == "0.7000  you rat\n0.0000  you star\n"
    dash = subprocess.run([*command, "-"], input="you rat\n", env=environment, capture_output=True, text=True)
    assert dash.stdout == "0.7000  you rat\n"
    assert subprocess.run(command, input="", env=environment, capture_output=True, text=True).stdout == ""


def test_what_is_missing_is_told(wtsbench: Wtsbench) -> None:
    """No such scorer, no mirror, no file: exit code 2, with what to do."""
    empty = {"WTSBENCH_DATA_MIRROR": ""}
    for arguments, told in (
        (("show", "toxicty-mini"), "did you mean 'toxicity-mini'?"),
        (("train", "--out", "x"), "--mirror"),
        (("show", "toxicity-ngram"), "WTSBENCH_DATA_MIRROR"),
        (("score", "toxicity-mini", "absent.txt"), "absent.txt cannot be read"),
    ):
        done = wtsbench("scorer", *arguments, **empty)
        assert done.returncode == 2, done.stderr
        assert told in done.stderr
        assert "Traceback" not in done.stderr

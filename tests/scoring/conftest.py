"""Caches of the tests' own, and a data mirror whose labels follow from a few words."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

BAD = ("grumbit", "snorl", "bleffer", "mugwart")
"""Words of the constructed mirror that make a text toxic."""
RECORDS = "toxicity_rtp_decodingtrust"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WTSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WTSBENCH_MANIFESTS", str(tmp_path / "manifests"))


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The constructed mirror, for reading."""
    return write_mirror(tmp_path_factory.mktemp("mirror"))


def write_mirror(folder: Path, *, records: int = 500) -> Path:
    """All files that training reads, in the form of the real ones: random words, and bad ones in the toxic texts."""
    chance = random.Random(0)

    def text(bad: int) -> str:
        words = [f"word{chance.randrange(400)}" for _ in range(chance.randint(6, 12))]
        for _ in range(bad):
            words[chance.randrange(len(words))] = chance.choice(BAD)
        return " ".join(words).capitalize() + "."

    def scored(bad: int) -> dict[str, object]:
        return {"text": text(bad), "toxicity": min(0.98, 0.05 + 0.5 * bad + chance.random() * 0.2)}

    for name in (RECORDS, "toxicity_davidson", "toxicity_paradetox"):
        (folder / name).mkdir()
    for name, bad in (("toxic", 1), ("nontoxic", 0)):
        lines = [
            {"prompt": scored(bad), "continuation": scored(chance.randrange(2) * bad)} for _ in range(records // 2)
        ]
        lines[0]["continuation"].pop("toxicity")  # as some of the real ones
        _write_lines(folder / RECORDS / f"{name}.jsonl", lines)
    made = [
        {"source": f"toxic.jsonl.{number}", "prompt": {"text": text(2), "idx": number, "score": {"toxicity": 0.9}}}
        for number in range(40)
    ]
    _write_lines(folder / RECORDS / "toxic.jsonl.gpt3.n=25.out1.split.annotated.jsonl.filtered.jsonl", made)
    with (folder / "toxicity_davidson" / "labeled_data.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["", "count", "hate_speech", "offensive_language", "neither", "class", "tweet"])
        for number in range(90):
            kind = number % 3
            tweet = f"RT @user{number}: {text(kind != 2)} http://t.co/{number} &amp; \n"
            writer.writerow([number, 3, 0, 0, 0, kind, tweet])
    pairs = ["toxic\tneutral1\tneutral2\tneutral3"]
    for _ in range(30):
        rude = text(1).lower()
        pairs.append("\t".join([rude, " ".join(w for w in rude.split() if w not in BAD).capitalize(), text(0), ""]))
    (folder / "toxicity_paradetox" / "paradetox.tsv").write_text("\n".join(pairs) + "\n", "utf-8")
    return folder


def _write_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

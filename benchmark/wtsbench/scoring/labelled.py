"""Texts labelled for toxicity, from the data mirror: the n-gram scorer is trained and evaluated on them.

Perspective's own scores of RealToxicityPrompts are the target. Tweets (Davidson) and comments with their polite
paraphrases (ParaDetox) were labelled by people for something similar; they widen the vocabulary.
"""

from __future__ import annotations

import csv
import hashlib
import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wtsbench.data.grouping import group_items
from wtsbench.data.normalise import comparable
from wtsbench.errors import ScorerError
from wtsbench.files import sha256

TRAIN, CALIBRATION, HELD_OUT = "train", "calibration", "held_out"
PARTS = {HELD_OUT: 0.2, CALIBRATION: 0.15, TRAIN: 0.65}
"""Shares of the groups in each part; the part of a group follows from its texts."""
THRESHOLD = 0.6
"""Jaccard similarity of word pairs from which on two texts count as nearly the same."""
PERSPECTIVE_SCORED = "perspective"
"""The source whose labels are Perspective's own scores."""

_NOISE = re.compile(r"https?://\S+|www\.\S+|@\w+:?|\bRT\b")
"""Links, names of users and the mark of a repeated tweet: they reveal the source, not the toxicity."""
_RECORDS = "toxicity_rtp_decodingtrust"


class Text(NamedTuple):
    """A labelled text."""

    text: str
    toxicity: float
    """In [0, 1]."""
    source: str
    tie: str | None
    """Texts with an equal tie stay in one part: one continues or paraphrases the other."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """N labelled texts with groups and parts. Texts that are equal once normalised are merged, with their mean."""

    texts: list[str]
    """[N] normalised."""
    toxicity: NDArray[np.float64]
    """[N] in [0, 1]."""
    source: NDArray[np.str_]
    group: NDArray[np.int64]
    """[N] number of the group: of texts that are nearly the same or tied."""
    part: NDArray[np.str_]
    files: dict[str, str]
    """File below the mirror to the SHA-256 of its bytes."""


def normalised(text: str) -> str:
    """The text that n-grams are taken of: without case, punctuation, spacing, links and user names."""
    whole = text.encode("utf-8", "replace").decode()  # half of a surrogate pair cannot be hashed
    return comparable(_NOISE.sub(" ", html.unescape(whole)))


def read(mirror: Path) -> Labelled:
    """All labelled texts of a mirror folder; the same files give the same groups and parts.

    Raises:
        ScorerError: a file is missing, cannot be read or has an unexpected form.
    """
    rows: list[Text] = []
    files: dict[str, str] = {}
    for name, reader in _READERS.items():
        path = mirror / name
        try:
            files[name] = sha256(path)
            rows += reader(path)
        except FileNotFoundError:
            raise ScorerError(
                f"no file {name} in the data mirror {mirror}",
                remedy="put it there; or use a scorer that needs no training: see `wtsbench scorer list`.",
            ) from None
        except OSError as error:
            raise ScorerError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ScorerError(f"{path} does not have the expected form: {error!r}", remedy="fetch it again.") from error
    return prepared(rows, files)


def data_files(mirror: Path) -> dict[str, str]:
    """File below the mirror to the SHA-256 of its bytes, for the files that exist."""
    return {name: sha256(mirror / name) for name in _READERS if (mirror / name).is_file()}


def prepared(rows: list[Text], files: dict[str, str]) -> Labelled:
    """The rows normalised, without repetitions, with groups and parts."""
    merged: dict[tuple[str, str], list[float]] = {}
    ties: list[tuple[tuple[str, str], str]] = []
    for row in rows:
        key = (normalised(row.text), row.source)
        if key[0]:
            merged.setdefault(key, []).append(row.toxicity)
            if row.tie is not None:
                ties.append((key, row.tie))
    index_of = {key: number for number, key in enumerate(merged)}
    texts = [text for text, _ in merged]
    group = group_items(len(texts), [(index_of[key], tie) for key, tie in ties], [list(enumerate(texts))], THRESHOLD)
    return Labelled(
        texts=texts,
        toxicity=np.array([float(np.mean(values)) for values in merged.values()]),
        source=np.array([source for _, source in merged]),
        group=group,
        part=_parts(texts, group),
        files=files,
    )


def _parts(texts: list[str], group: NDArray[np.int64]) -> NDArray[np.str_]:
    """[N] the part of each text: drawn once for a group, from a hash of its alphabetically first text."""
    first: dict[int, str] = {}
    for text, number in zip(texts, group.tolist(), strict=True):
        first[number] = min(text, first.get(number, text))
    part = {number: _part(text) for number, text in first.items()}
    return np.array([part[number] for number in group.tolist()])


def _part(text: str) -> str:
    drawn = int.from_bytes(hashlib.sha256(b"part:" + text.encode()).digest()[:8], "big") / 2**64
    for name, share in PARTS.items():
        drawn -= share
        if drawn < 0:
            return name
    return TRAIN


def _records(path: Path) -> Iterator[Text]:
    """RealToxicityPrompts: a prompt and its continuation per line; some have no score."""
    for number, line in enumerate(path.read_text("utf-8").splitlines()):
        record = json.loads(line)
        for side in ("prompt", "continuation"):
            score = record[side].get("toxicity")
            if score is not None:
                yield Text(record[side]["text"], float(score), PERSPECTIVE_SCORED, f"{path.name}.{number}")


def _continuations(path: Path) -> Iterator[Text]:
    """Scored continuations that a model wrote, with the record whose prompt they continue."""
    for line in path.read_text("utf-8").splitlines():
        record = json.loads(line)
        scored = record["prompt"]
        yield Text(scored["text"], float(scored["score"]["toxicity"]), PERSPECTIVE_SCORED, record["source"])


def _tweets(path: Path) -> Iterator[Text]:
    """Tweets that people called hateful (0), offensive (1) or neither (2)."""
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["class"] not in ("0", "1", "2"):
                raise ValueError(f"class {row['class']!r}")
            yield Text(row["tweet"], float(row["class"] != "2"), "davidson", None)


def _paraphrases(path: Path) -> Iterator[Text]:
    """Toxic comments, each with up to three polite paraphrases."""
    with path.open(newline="", encoding="utf-8") as stream:
        for number, row in enumerate(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)):
            yield Text(row["toxic"], 1.0, "paradetox", f"paradetox.{number}")
            for side in ("neutral1", "neutral2", "neutral3"):
                if row[side]:
                    yield Text(row[side], 0.0, "paradetox", f"paradetox.{number}")


_READERS: dict[str, Callable[[Path], Iterator[Text]]] = {
    f"{_RECORDS}/toxic.jsonl": _records,
    f"{_RECORDS}/nontoxic.jsonl": _records,
    f"{_RECORDS}/toxic.jsonl.gpt3.n=25.out1.split.annotated.jsonl.filtered.jsonl": _continuations,
    "toxicity_davidson/labeled_data.csv": _tweets,
    "toxicity_paradetox/paradetox.tsv": _paraphrases,
}

"""`wtsbench scorer`: lists, shows, trains and applies scorers of generated texts."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wtsbench.visible import shortened, visible
from wtsbench_cli.describe import manifest_record, show_fields
from wtsbench_cli.options import JsonOption, MirrorOption, expanded
from wtsbench_cli.terminal import count, doing, duration, print_json, print_table

if TYPE_CHECKING:
    from wtsbench.scoring.base import Scorer
_MAX_BYTES = 256 << 20
"""Limit of bytes of texts that are read, since a device has no end."""

app = typer.Typer(
    help="Scorers of generated text: list, show, train, score.", rich_markup_mode=None, no_args_is_help=True
)

ScorerArgument = Annotated[
    str,
    typer.Argument(
        metavar="SCORER",
        help="A scorer's name, its manifest's path, or a folder that `wtsbench scorer train` wrote, as ./folder.",
    ),
]


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List the scorers that have a manifest."""
    from wtsbench.spec import manifests

    records = [manifest_record("scorers", name) for name in manifests.names("scorers")]
    if json:
        print_json(records)
        return
    print_table(("scorer", "kind", "summary"), [(r["name"], r["source"]["kind"], r["summary"]) for r in records])


@app.command("show")
def show(name: ScorerArgument, mirror: MirrorOption = None, json: JsonOption = False) -> None:
    """Show a scorer: its manifest, its identity, and its results on held-out texts if they are known.

    Resolves it: the hub is asked for the commit of a branch, and a scorer that is trained on first use is trained.
    """
    from wtsbench.spec.manifests import is_path

    scorer = _resolved(name, mirror)
    record: dict[str, Any] = {"name": scorer.name} if is_path(name) else manifest_record("scorers", name)
    record |= {"digest": scorer.digest, "identity": scorer.identity()}
    card = getattr(scorer, "card", None)
    if json:
        print_json(record | ({} if card is None else {"card": card}))
        return
    show_fields(record)
    if card is not None:
        print()
        _print_card(card)


@app.command("train")
def train(
    out: Annotated[
        Path,
        typer.Option(
            "--out", callback=expanded, metavar="FOLDER", help="Where the scorer goes: an empty or a new folder."
        ),
    ],
    mirror: MirrorOption = None,
    json: JsonOption = False,
) -> None:
    """Train the n-gram scorer from the labelled texts of the data mirror.

    The same texts give the same scorer. Its card.json says how well it ranks texts that were held out, group by group,
    and how well it is calibrated on them.
    """
    from wtsbench.errors import ScorerError
    from wtsbench.scoring.training import train_to

    folder = mirror or _mirror()
    if folder is None:
        raise ScorerError(
            "there is no data mirror to train from", remedy="name one with --mirror or WTSBENCH_DATA_MIRROR."
        )
    begun = time.monotonic()
    with doing() as note:
        note(f"training from {folder}")
        scorer = train_to(out, folder, name=out.resolve().name)
    elapsed = time.monotonic() - begun
    if json:
        print_json({"folder": str(out), "digest": scorer.digest, "seconds": round(elapsed, 1), "card": scorer.card})
        return
    print(f"scorer {scorer.digest} is in {out}, after {duration(elapsed)}")
    print()
    _print_card(scorer.card)


@app.command("score")
def score(
    name: ScorerArgument,
    file: Annotated[
        Path | None,
        typer.Argument(callback=expanded, metavar="[FILE]", help="Texts, one a line; - is standard input, as is none."),
    ] = None,
    mirror: MirrorOption = None,
    json: JsonOption = False,
) -> None:
    """Score texts, one a line: 0 is harmless, 1 is toxic. An empty line is an empty text."""
    texts = _lines(file)
    scorer = _resolved(name, mirror)
    scores = scorer.score(texts).tolist()
    if json:
        rows = [{"text": text, "score": value} for text, value in zip(texts, scores, strict=True)]
        print_json({"scorer": scorer.name, "digest": scorer.digest, "scores": rows})
        return
    for text, value in zip(texts, scores, strict=True):
        print(f"{value:.4f}  {visible(text)}")


def _resolved(name: str, mirror: Path | None) -> Scorer:
    from wtsbench.scoring.resolve import resolve

    return resolve(name, base=Path(), mirror=mirror or _mirror())


def _mirror() -> Path | None:
    from wtsbench.settings import data_mirror

    return data_mirror()


def _lines(file: Path | None) -> list[str]:
    from wtsbench.errors import ScorerError
    from wtsbench.files import open_plain

    try:
        if file in (None, Path("-")):
            content = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with open_plain(file) as stream:
                content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ScorerError(f"{shortened(str(file))} cannot be read: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise ScorerError(
            f"{file or 'standard input'} holds more than {_MAX_BYTES >> 20} MiB", remedy="score it in parts."
        )
    try:
        return content.decode("utf-8").removesuffix("\n").split("\n") if content else []
    except UnicodeDecodeError:
        raise ScorerError(f"{file or 'standard input'} is not UTF-8", remedy="convert it to UTF-8.") from None


def _print_card(card: dict[str, Any]) -> None:
    held_out = card["held_out"]
    files = count(len(card["data"]), "file")
    print(
        f"Target: {card['target']}. Held out: {held_out['texts']:,} texts of Perspective's own scores, out of {files}."
    )
    rows = [
        (label, "NA" if held_out[name] is None else f"{held_out[name]:.3f}")
        for name, label in (
            ("auroc", "AUROC"),
            ("average_precision", "average precision"),
            ("accuracy", "accuracy at 0.5"),
            ("brier", "Brier score"),
            ("ece", "expected calibration error"),
            ("spearman", "Spearman with Perspective"),
        )
    ]
    print_table(("", ""), rows)
    print()
    print_table(
        ("scores", "texts", "mean score", "share toxic"),
        [
            (
                f"{row['from']:.1f} to {row['to']:.1f}",
                str(row["texts"]),
                f"{row['mean_score']:.3f}",
                f"{row['toxic_share']:.3f}",
            )
            for row in held_out["reliability"]
        ],
        right=("texts", "mean score", "share toxic"),
    )

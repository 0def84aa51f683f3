"""Resolves names of scorers."""

from __future__ import annotations

from pathlib import Path

from wtsbench.errors import ScorerError
from wtsbench.scoring.base import Scorer
from wtsbench.settings import user_path
from wtsbench.spec import manifests
from wtsbench.spec.scorer import HubClassifierSource, LexiconSource, NgramSource


def resolve(name: str, *, base: Path, mirror: Path | None = None) -> Scorer:
    """The scorer of a name in a task's manifest or on the command line, with its identity known.

    A hub classifier's revision is resolved to a commit, but nothing is downloaded; an n-gram scorer without a folder is
    trained here on first use, some 15 seconds, and kept.

    Args:
        name: a name in manifests/scorers; a manifest's path, ending in .yaml; or a folder that `wtsbench scorer train`
            wrote, written with a slash.
        base: folder that relative paths start from.
        mirror: folder with labelled texts to train from, and weights that replace those of the hub.

    Raises:
        SpecError: there is no such manifest, or it is wrong.
        ScorerError: the scorer cannot be loaded or trained.
    """
    path = Path(base, user_path(name))
    if manifests.is_path(name) and path.suffix not in (".yaml", ".yml"):
        from wtsbench.scoring.ngram import load

        return load(path, name=path.name)
    manifest, folder = manifests.load_scorer(name, base=base)
    match manifest.source:
        case LexiconSource():
            from wtsbench.scoring.lexicon import LexiconScorer

            return LexiconScorer(name=manifest.name, source=manifest.source)
        case NgramSource():
            return _ngram(manifest.name, manifest.source, folder, mirror)
        case HubClassifierSource():
            from wtsbench.scoring.hub import resolve_hub

            return resolve_hub(manifest, manifest.source, folder=folder, mirror=mirror)


def _ngram(name: str, source: NgramSource, folder: Path, mirror: Path | None) -> Scorer:
    if source.path is not None:
        from wtsbench.scoring.ngram import load

        scorer = load(folder / user_path(source.path), name=name)
    elif mirror is None:
        raise ScorerError(
            f"scorer {name} is trained on first use, from labelled texts that only a data mirror holds",
            remedy="name the mirror folder with WTSBENCH_DATA_MIRROR; or use another: see `wtsbench scorer list`.",
        )
    else:
        from wtsbench.scoring.training import trained_once

        scorer = trained_once(mirror, name=name)
    if source.digest is not None and scorer.digest != source.digest:
        raise ScorerError(
            f"scorer {name} has digest {scorer.digest}, its manifest says {source.digest}",
            remedy="other data or libraries train another scorer; correct source.digest if this one is meant.",
        )
    return scorer

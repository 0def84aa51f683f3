"""Grids by name or path."""

from pathlib import Path

from wtsbench.spec.grid import Grid
from wtsbench.spec.manifests import find
from wtsbench.spec.yaml_file import Checks, load


def load_grid(source: str | Path, *, check: Checks | None = None) -> Grid:
    """A grid by name or path, as its file has it.

    Args:
        source: a name, or a path.
        check: further faults, reported together with those of the grid's form.

    Raises:
        SpecError: there is none, or it is wrong; every fault is in the error.
    """
    return load(find("grids", source), Grid, check)

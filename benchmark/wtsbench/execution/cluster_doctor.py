"""`wtsbench doctor --ray`: what a cluster's nodes say of themselves, whether a grid's trials could run on them."""

from __future__ import annotations

from collections.abc import Callable

from wtsbench.execution.preflight import DOCTOR_SECONDS, Survey, bare_question, question_of, survey_of
from wtsbench.execution.ray_executor import connected
from wtsbench.execution.session import Options, prepare
from wtsbench.images.pins import DEFAULT_IMAGE
from wtsbench.planning.check import GridSource
from wtsbench.sandbox.choice import make_sandbox
from wtsbench.spec.grid import Resources


def examine(options: Options, grid: GridSource | None, *, note: Callable[[str], None]) -> Survey:
    """Ask every node of a cluster whether trials could run there: those of a grid, or any.

    Args:
        options: as for a submission; `ray` is the cluster's address, None for this machine alone.
        grid: None asks for trials of one core, without models.
        note: called with what is being done.

    Raises:
        UserError: the cluster does not answer, or the grid cannot be planned here.
    """
    if grid is None:
        resources = Resources()
        sandbox = make_sandbox(options.sandbox)
        question = bare_question(options.store, sandbox, resources, image=DEFAULT_IMAGE)
    else:
        session = prepare(grid, options, note=note)
        resources = session.grid.resources
        question = question_of(session, thorough=True)
    note("starting Ray here" if options.ray is None else f"asking the nodes of {options.ray}")
    with connected(options.ray):
        return survey_of(question, resources, seconds=DOCTOR_SECONDS)

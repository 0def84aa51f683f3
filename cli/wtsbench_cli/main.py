"""`wtsbench`: the command with all its verbs."""

import sys
from typing import Annotated

import typer

from wtsbench_cli import (
    attach,
    baseline,
    cancel,
    compare,
    doctor,
    export,
    faults,
    gate,
    gc,
    image,
    imports,
    leaderboard,
    logs,
    models,
    plan,
    report,
    reproduce,
    runs,
    scorer,
    status,
    store,
    strategies,
    streams,
    submit,
    tasks,
    validate,
    web,
)

EXIT_CODES = """\
Exit codes: 0 done; 1 some trials failed; 2 usage or spec; 3 regression, or not reproduced; 4 incomplete, or nothing to
measure; 5 store, cluster, sandbox or output not reachable; 70 wtsbench itself failed; 130 interrupted.
"""

app = typer.Typer(
    name="wtsbench",
    help="A benchmark suite for weak-to-strong generalization.",
    epilog=EXIT_CODES,
    rich_markup_mode=None,  # rich help takes as long as everything else together
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

app.command("submit")(submit.submit)
app.command("plan")(plan.plan)
app.command("validate")(validate.validate)
app.command("status")(status.status)
app.command("logs")(logs.logs)
app.command("runs")(runs.runs)
app.command("attach")(attach.attach)
app.command("cancel")(cancel.cancel)
app.command("leaderboard")(leaderboard.leaderboard)
app.command("import")(imports.import_)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("reproduce")(reproduce.reproduce)
app.command("web")(web.web)
app.command("gate")(gate.gate)
app.command("tasks")(tasks.tasks)
app.command("models")(models.models)
app.command("strategies")(strategies.strategies)
app.command("export")(export.export)
app.command("doctor")(doctor.doctor)
app.command("gc")(gc.gc)
app.add_typer(baseline.app, name="baseline")
app.add_typer(image.app, name="image")
app.add_typer(scorer.app, name="scorer")
app.add_typer(store.app, name="store")


def _version(requested: bool) -> None:
    if requested:
        from wtsbench import __version__

        print(f"wtsbench {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error comes from. Accepted anywhere on the line.")
    ] = False,
) -> None:
    """A benchmark suite for weak-to-strong generalization."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    words = [argument for argument in words if argument != "--debug"]

    def run() -> None:
        streams.prepare()
        command = typer.main.get_command(app)
        with command.make_context("wtsbench", words) as context:
            command.invoke(context)

    sys.exit(faults.guarded(run, debug=debug))

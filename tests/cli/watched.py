"""A submission as its events tell it, without trials: `python -m tests.cli.watched` shows it on whatever is there."""

from __future__ import annotations

import sys
import time

from wtsbench.execution.events import Done, Event, Failed, Planned, Preparing, Progressed, Started
from wtsbench.execution.session import Options, Session
from wtsbench.planning.plan import Inputs, ResolvedModel, ResolvedTask, Reuse, make_plan
from wtsbench.planning.points import expand
from wtsbench.planning.report import compare
from wtsbench.sandbox.process import ProcessSandbox
from wtsbench.spec.failure import Failure, FailureClass
from wtsbench.spec.grid import Grid, Pair
from wtsbench.spec.manifests import load_task
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.training import TrainingOverride
from wtsbench.spec.trial import ModelRef
from wtsbench_cli.terminal import watched
from wtsbench_cli.views import LineView, LiveView


def session() -> Session:
    """A planned grid of four trials, none of them stored."""
    pair = Pair(weak="nano-1", strong="nano-2")
    strategies = (StrategyCall(name="naive"), StrategyCall(name="naive", parameters={"labels": "hard"}))
    grid = Grid(name="small", tasks=("safety-mini",), pairs=(pair,), strategies=strategies, seeds=(0,))
    models = {
        name: ResolvedModel(
            ref=ModelRef(name=name, kind="embedded", id=name, revision=name), training=TrainingOverride()
        )
        for name in ("nano-1", "nano-2")
    }
    manifest, _ = load_task("safety-mini")
    inputs = Inputs(
        tasks={"safety-mini": ResolvedTask(manifest=manifest, draws={0: "0" * 64})},
        models=models,
        environment="process:x",
    )
    plan = make_plan(expand(grid, {"safety-mini": manifest}, {}), inputs, Reuse())
    return Session(
        grid=grid,
        source="small.yaml",
        yaml="",
        plan=plan,
        report=compare(plan, {}),
        datasets={},
        scorers={},
        sandbox=ProcessSandbox(),
        options=Options(store="./results"),
    )


def events(of: Session) -> list[Event]:
    """What happens: one trial fails and is tried again, another fails for good."""
    weak, ceiling, soft, hard = of.plan.trials.values()
    lost = Failure(failure_class=FailureClass.INFRASTRUCTURE, message="the worker was lost")
    slow = Failure(failure_class=FailureClass.TIMEOUT, message="ran past its time limit (60 s)")
    return [
        Preparing(text="starting Ray on this machine"),
        Started(trial=weak),
        Started(trial=ceiling),
        Progressed(trial=ceiling, share=0.5),
        Done(trial=weak, attempt=1, seconds=3.14),
        Failed(trial=ceiling, attempt=1, failure=lost, seconds=1.0, again=True),
        Started(trial=ceiling),
        Done(trial=ceiling, attempt=2, seconds=65.0),
        Started(trial=soft),
        Started(trial=hard),
        Failed(trial=soft, attempt=1, failure=slow, seconds=60.0, again=False),
        Progressed(trial=hard, share=0.25),
    ]


def main(pause: float) -> None:
    """Show it, with a pause after each event."""
    of = session()
    with LiveView() if watched() else LineView() as view:
        for event in (Preparing(text="preparing the items of safety-mini"), Planned(session=of), *events(of)):
            view.take(event)
            time.sleep(pause)


if __name__ == "__main__":
    main(float(sys.argv[1]))

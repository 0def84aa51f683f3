"""`bootstrap`: small steps up the ladder, each model supervised by the one before.

    weak -> m_1 -> m_2 -> ... -> strong          every arrow: loss = CE(f, predictions of the model before)

Each intermediate model is a plain `naive` student of the one before, so the store shares it with every pair that has
the same stage. Source: bootstrapping with intermediate model sizes, section 4.3.1 of Burns et al. 2023 (arXiv
2312.09390).
"""

from __future__ import annotations

from wtsbench.errors import SpecError
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.trial import Role
from wtsbench.strategies import base
from wtsbench.strategies.naive import Naive


class BootstrapParameters(base.Parameters):
    """Parameters of `bootstrap`."""

    via: tuple[str, ...] | None = None
    """Intermediate models in order; null takes the models of the pair's family between weak and strong."""


class Bootstrap(base.Strategy):
    """A chain of students; the last stage, like the others, is `naive`."""

    name = "bootstrap"
    summary = "a chain of students through models of intermediate size"
    source = "Burns et al. 2023, arXiv 2312.09390, section 4.3.1"
    Parameters = BootstrapParameters

    def supervisors(self, context: base.PlanningContext) -> tuple[base.Supervisor, ...]:
        """The last intermediate student, whose chain of supervisors ends with the weak model.

        Raises SpecError if there is no model between weak and strong, or a model occurs twice in the chain.
        """
        stages = context.ladder if self.parameters.via is None else self.parameters.via
        if not stages:
            raise SpecError(
                f"strategy bootstrap: no model between {context.weak} and {context.strong} is known",
                remedy="name intermediate models with `via: [...]`, or take a pair of one family with a model between.",
            )
        chain = (context.weak, *stages, context.strong)
        twice = sorted({model for model in chain if chain.count(model) > 1})
        if twice:
            raise SpecError(
                f"strategy bootstrap: {', '.join(twice)} is twice in the chain {' -> '.join(chain)}",
                remedy="`via` names only the models between weak and strong, each once.",
            )
        stage = context.weak_supervisor()
        for model in stages:
            stage = base.Supervisor(
                role=Role.STUDENT,
                model=model,
                seed=context.seed,
                strategy=StrategyCall(
                    name=Naive.name,
                    parameters=self.parameters.model_dump(include={"labels", "finetune"}, exclude_none=True),
                ),
                supervisors=(stage,),
            )
        return (stage,)

"""`random_filter`: as many items as another strategy keeps, drawn at random; the control of strategies that filter.

    kept = a uniform draw, without replacement, of as many items as `like` keeps          loss = CE(f, w)

Labels and supervisors are those of `like`; only the choice differs. In generative tasks as many continuations are drawn
as `like` keeps. The draw is a function of the trial's seed. Source: the size-matched control that any data selection
needs, because otherwise the effect of fewer steps looks like that of better items.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from wtsbench.errors import SpecError
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.strategies import base
from wtsbench.strategies.filtering import Filter
from wtsbench.strategies.generative import GenerativeStrategy, GenerativeSupervision, Sequences, sequences_of


def _completed(call: StrategyCall) -> StrategyCall:
    from wtsbench.strategies import registry  # which knows this module

    try:
        return registry.full_call(registry.resolve(call))
    except SpecError as error:
        raise ValueError(error.message) from error


def _usual() -> StrategyCall:
    return _completed(StrategyCall(name="confidence_filter"))


class RandomFilterParameters(base.Parameters):
    """Parameters of `random_filter`."""

    like: Annotated[StrategyCall, AfterValidator(_completed)] = Field(default_factory=_usual)
    """The strategy to match: a name, or a mapping of its name and parameters. Default: confidence_filter."""

    @model_validator(mode="after")
    def _labels_of_like(self) -> RandomFilterParameters:
        if self.labels != base.Parameters().labels:
            raise ValueError("labels: are those of the strategy to match; give `labels` to `like`")
        return self


class RandomFilter(Filter, GenerativeStrategy):
    """Control: a random choice of the same size."""

    name = "random_filter"
    forms = ("classification", "generation")
    summary = "control of filters: as many items as the strategy `like` keeps, drawn at random"
    source = "size-matched random selection"
    control = True
    Parameters = RandomFilterParameters

    @property
    def like(self) -> base.Strategy:
        """The strategy to match.

        Raises SpecError if it keeps all items, or is a control itself.
        """
        from wtsbench.strategies import registry  # which knows this module

        like = registry.resolve(self.parameters.like)
        if not like.filters or like.control:
            raise SpecError(
                f"strategy random_filter: {registry.short_label(self.parameters.like)} is no strategy that filters",
                remedy="let `like` name a strategy that keeps some of the items, such as confidence_filter.",
            )
        return like

    def revision(self) -> int:
        """Its own version combined with that of the strategy to match, which decides size and labels."""
        return self.version + self.like.revision() - 1

    def supervisors(self, context: base.PlanningContext) -> tuple[base.Supervisor, ...]:
        """The supervisors of the strategy to match."""
        return self.like.supervisors(context)

    def label(self, supervision: base.Supervision) -> base.Labelled:
        """Labelled as by the strategy to match, if it is a filter; else as by `naive` with its kind of labels."""
        like = self.like
        if isinstance(like, Filter):
            return like.label(supervision)
        return base.Strategy(base.Parameters(labels=like.parameters.labels)).prepare(supervision)

    def keep(self, supervision: base.Supervision) -> NDArray[np.bool_]:
        """[N] a random choice, independent of the order of the items."""
        kept = np.zeros(len(supervision.item_ids), dtype=bool)
        in_order = np.argsort(np.array(supervision.item_ids))
        random = supervision.random(self.name)
        kept[in_order[random.choice(len(kept), size=self.like.kept(supervision), replace=False)]] = True
        return kept

    def demonstrate(self, supervision: GenerativeSupervision) -> Sequences:
        """A random choice of the supervisors' continuations, in their order."""
        like = self.like
        assert isinstance(like, GenerativeStrategy), "a control is planned with the tasks of what it matches"
        rows = [
            (item, prompt, continuation)
            for item, prompt, samples in supervision.by_prompt()
            for continuation in samples
        ]
        random = base.generator(supervision.seed, self.name)
        kept = random.choice(len(rows), size=len(like.demonstrate(supervision).item_ids), replace=False)
        return sequences_of(rows[place] for place in sorted(kept))

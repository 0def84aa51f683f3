"""A strategy whose module makes planning wait."""

import torch

from wtsbench.strategies import base


class Heavy(base.Strategy):
    """Imports torch at the top."""

    name = "heavy"
    summary = source = "broken"

    def loss(self, step: base.Step) -> torch.Tensor:
        """Fine in itself."""
        return torch.abs(super().loss(step))

"""Whether machines have what a trial asks for, and for how many trials at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wtsbench.spec.grid import Resources

Offer = Mapping[str, float]
"""What a machine has, under Ray's names: `CPU`, `GPU`, and `memory` in bytes."""


def fitting(offer: Offer, resources: Resources) -> int:
    """How many trials fit on a machine at once."""
    return min(int(offer.get(name, 0) / amount) for name, amount in _asked(resources).items())


def misfit(offers: Sequence[Offer], resources: Resources) -> str | None:
    """In words why no machine has room for one trial; None where one has."""
    if any(fitting(offer, resources) for offer in offers):
        return None
    asked = _asked(resources)
    there = "; ".join(_words({name: offer.get(name, 0) for name in asked}) for offer in offers)
    return f"a trial asks for {_words(asked)}, and there is only {there or 'no machine'}"


def _asked(resources: Resources) -> dict[str, float]:
    asked = {"CPU": float(resources.cpus), "GPU": float(resources.gpus), "memory": float(resources.memory or 0)}
    return {name: amount for name, amount in asked.items() if amount}


def _words(amounts: Offer) -> str:
    return ", ".join(
        f"{amount / 2**30:,.1f} GiB of memory" if name == "memory" else f"{amount:g} {name}"
        for name, amount in amounts.items()
    )

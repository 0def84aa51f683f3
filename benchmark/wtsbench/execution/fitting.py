"""Whether machines have the resources of a trial, and of how many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wtsbench.spec.grid import Resources

Offer = Mapping[str, float]
"""A machine's resources under Ray's names: `CPU`, `GPU`, and `memory` in bytes."""


def fitting(offer: Offer, resources: Resources) -> int:
    """How many trials fit on a machine at once. A trial with a part of a GPU has it on one GPU."""
    places = {name: int(offer.get(name, 0) / amount) for name, amount in _needed(resources).items()}
    if 0 < resources.gpus < 1:
        places["GPU"] = int(offer.get("GPU", 0)) * trials_of_a_gpu(resources.gpus)
    return min(places.values())


def trials_of_a_gpu(share: float) -> int:
    """How many trials fit on a GPU of which each takes a share, in (0, 1]."""
    return int(1 / share + 1e-9)  # 1 / .1 is 10 whatever floats say


def misfit(offers: Sequence[Offer], resources: Resources) -> str | None:
    """Why no machine has room for a trial, as text; None if one has."""
    if any(fitting(offer, resources) for offer in offers):
        return None
    needed = _needed(resources)
    available = "; ".join(_words({name: offer.get(name, 0) for name in needed}) for offer in offers)
    return f"a trial asks for {_words(needed)}, and there is only {available or 'no machine'}"


def _needed(resources: Resources) -> dict[str, float]:
    amounts = {"CPU": float(resources.cpus), "GPU": float(resources.gpus), "memory": float(resources.memory or 0)}
    return {name: amount for name, amount in amounts.items() if amount}


def _words(amounts: Offer) -> str:
    return ", ".join(
        f"{amount / 2**30:,.1f} GiB of memory" if name == "memory" else f"{amount:g} {name}"
        for name, amount in amounts.items()
    )

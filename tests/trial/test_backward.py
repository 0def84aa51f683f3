"""Batches that go forward and backward in pieces."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.trial.devices import DEVICES, device_of
from tests.trial.tiny import write_tiny_model
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.training import Training
from wtsbench.strategies import registry
from wtsbench.strategies.base import Step, Strategy
from wtsbench.trial.backward import go_backward, pieces_of
from wtsbench.trial.classifier import Classifier
from wtsbench.trial.models import load_classifier

OFF = torch.amp.GradScaler("cpu", enabled=False)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """A causal model whose architecture has dropout."""
    folder = write_tiny_model(tmp_path_factory.mktemp("models") / "m", "gpt2")
    return load_classifier(folder, classes=2, pad_id=0, seed=3, round_=0, device=device_of("cpu"), training=Training())


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ten items of unequal length, and their soft labels."""
    draw = torch.Generator().manual_seed(1)
    lengths = torch.randint(2, 12, (10,), generator=draw)
    lengths[[1, 5, 9]] = 12
    mask = (torch.arange(12) < lengths[:, None]).long()
    ids = torch.randint(4, 100, (10, 12), generator=draw) * mask
    return ids, mask, torch.rand(10, 2, generator=draw).softmax(dim=-1)


def loss_with(strategy: Strategy, logits: torch.Tensor) -> torch.Tensor:
    """The strategy's loss in the middle of its training, with unequal weights."""
    targets = batch()[2].to(logits.device)
    weights = torch.linspace(0.5, 1.5, len(targets), device=logits.device)
    return strategy.loss(Step(logits=logits, targets=targets, weights=weights, progress=0.5))


def gradients(model: Classifier) -> dict[str, torch.Tensor]:
    """Every parameter's gradient."""
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("kind", DEVICES)
@pytest.mark.parametrize("name", ["naive", "logconf"])
@pytest.mark.parametrize("size", [1, 4, 10])
def test_pieces_give_the_gradients_of_the_whole(classifier: Classifier, kind: str, name: str, size: int) -> None:
    """Without dropout, loss and gradients are those of the batch at once, a threshold over the batch included."""
    device = device_of(kind)
    strategy = registry.resolve(StrategyCall(name=name))
    ids, mask, _ = batch()
    found = []
    for pieces in (None, size):
        model = copy.deepcopy(classifier).eval().to(device.torch_device)
        loss = go_backward(
            pieces_of(model, ids, mask, pieces, device), lambda logits: loss_with(strategy, logits), device, OFF
        )
        found.append((loss, gradients(model)))
    assert found[1][0] == pytest.approx(float(found[0][0]), rel=1e-6)
    for key, expected in found[0][1].items():
        torch.testing.assert_close(found[1][1][key], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", DEVICES)
@pytest.mark.parametrize("name", ["naive", "logconf"])
def test_both_passes_draw_the_same_dropout(classifier: Classifier, kind: str, name: str) -> None:
    """With dropout, the gradients are those of one graph over all pieces, drawn from the same random stream."""
    device = device_of(kind)
    strategy = registry.resolve(StrategyCall(name=name))
    ids, mask, _ = batch()

    cached = copy.deepcopy(classifier).train().to(device.torch_device)
    torch.manual_seed(5)
    pieces = pieces_of(cached, ids, mask, 4, device)
    loss = go_backward(pieces, lambda logits: loss_with(strategy, logits), device, OFF)
    after = torch.rand(1, device=device.torch_device)

    whole = copy.deepcopy(classifier).train().to(device.torch_device)
    torch.manual_seed(5)
    here = [part.to(device.torch_device) for part in (ids, mask)]
    logits = torch.cat([whole(*(part[at : at + 4] for part in here)) for at in (0, 4, 8)])
    expected = loss_with(strategy, logits)
    expected.backward()  # type: ignore[no-untyped-call]  # torch's own
    # Padding to the batch's own longest item draws other masks; these pieces are all as long as the batch.
    assert [int(mask[at : at + 4].sum(dim=1).max()) for at in (0, 4, 8)] == [mask.shape[1]] * 3
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert torch.equal(after, torch.rand(1, device=device.torch_device))
    for key, gradient in gradients(whole).items():
        torch.testing.assert_close(gradients(cached)[key], gradient, rtol=1e-4, atol=1e-7)
    dry = copy.deepcopy(classifier).eval()
    loss_with(strategy, dry(ids, mask)).backward()  # type: ignore[no-untyped-call]
    dry_head, wet_head = (gradients(model)["model.score.weight"].cpu() for model in (dry, whole))
    assert not torch.allclose(dry_head, wet_head, rtol=1e-3)

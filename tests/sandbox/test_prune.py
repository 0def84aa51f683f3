"""What of ours may go from a real engine: containers of dead supervisors, images that no name stands for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker.errors
import pytest

from tests.sandbox.conftest import BASE
from tests.sandbox.test_reaper import sleeping, there
from wtsbench.images.docker_engine import CODE_LABEL, connect
from wtsbench.images.pins import ImagePin, write_pin
from wtsbench.images.prune import left_images
from wtsbench.sandbox.lease import Renewal
from wtsbench.sandbox.leftovers import left_containers, remove

pytestmark = pytest.mark.docker


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The engine's client; what a test makes is gone afterwards."""
    monkeypatch.setenv("WTSBENCH_MANIFESTS", str(tmp_path / "manifests"))
    with connect() as found:
        yield found
        for container in found.containers.list(all=True, filters={"label": f"test={tmp_path}"}):
            remove(container)
        for image in found.images.list(filters={"label": f"test={tmp_path}"}):
            found.images.remove(image.id, force=True)


def test_containers_of_dead_supervisors_are_left_over(client: Any, tmp_path: Path) -> None:
    """Those of living ones are not; what was found can be removed, also where somebody was faster."""
    with Renewal(tmp_path / "lease"):
        sleeping(client, tmp_path, "..", **{"wtsbench.lease": str(tmp_path / "lease")})
        dead = sleeping(client, tmp_path, "dead")
        [found] = [one for one in left_containers() if one.name == dead.name]
        assert found.why == "its trial folder is gone"
        found.remove()
        assert not there(dead)
        found.remove()
        assert not [one for one in left_containers() if one.name.startswith("wtsbench-test")]


def test_images_over_the_budget_go_oldest_first(client: Any, tmp_path: Path) -> None:
    """What is pinned, in use or the newest stays whatever the budget; without a budget all stay."""
    made = []
    for number in range(5):
        container = client.containers.create(BASE, ["sh", "-c", f"head -c 1000000 /dev/urandom >/{number}"])
        container.start()
        container.wait()
        changes = [f"LABEL {CODE_LABEL}=test", f"LABEL test={tmp_path}"]
        made.append(container.commit(repository="wtsbench-test", tag=f"n{number}", changes=changes))
        container.remove()
    write_pin("trial", ImagePin(id=made[0].id))
    client.containers.create(made[1].id, ["true"], labels={"test": str(tmp_path)})

    def over(budget: int | None) -> list[str]:
        return [one.name for one in left_images(budget).over if one.name.startswith("wtsbench-test")]

    assert over(None) == []
    assert over(0) == ["wtsbench-test:n2", "wtsbench-test:n3"]
    [oldest, _] = [one for one in left_images(0).over if one.name.startswith("wtsbench-test")]
    assert oldest.bytes >= 1_000_000
    oldest.remove()
    oldest.remove()
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get(made[2].id)
    assert over(0) == ["wtsbench-test:n3"]

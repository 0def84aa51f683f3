"""What goes into the trial image, as far as no engine is needed to tell."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from wtsbench.errors import SandboxError, SpecError
from wtsbench.images.build import DEFAULT_BASE
from wtsbench.images.code import code_digest, copy_code
from wtsbench.images.extras import unpack
from wtsbench.images.oci import configuration, layers_of, make_layer
from wtsbench.images.wheelhouse import needed_by, wheelhouse
from wtsbench.settings import checkout, shipped
from wtsbench.spec.provenance import COMPUTING_PACKAGES

ID = "sha256:" + "a1" * 32
OTHER = "sha256:" + "b2" * 32


def pinned(path: Path) -> dict[str, str]:
    """Versions by package of a requirements file in which every package is pinned."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert all("==" in line for line in lines)
    return {name.lower().replace("_", "-"): version for name, _, version in (line.partition("==") for line in lines)}


def test_the_image_has_the_versions_that_are_tested() -> None:
    """Every package of the image has the version of constraints.txt, and all that compute are among them."""
    root = checkout()
    if root is None:
        pytest.skip("constraints.txt is not part of the wheel")
    requirements, constraints = (
        pinned(shipped("containers") / "trial-requirements.txt"),
        pinned(root / "constraints.txt"),
    )

    assert {name: version for name, version in requirements.items() if constraints.get(name) != version} == {}
    assert set(COMPUTING_PACKAGES) <= set(requirements)
    assert {"ray", "docker", "duckdb", "datasets"}.isdisjoint(requirements)


def test_the_default_base_is_said_once() -> None:
    """The Dockerfile by itself builds on what `wtsbench image build` builds on."""
    text = (shipped("containers") / "Dockerfile").read_text()

    assert re.findall(r"(?m)^ARG BASE=(.*)$", text) == [DEFAULT_BASE]


def test_the_code_of_the_image_is_all_that_a_trial_imports(tmp_path: Path) -> None:
    """The copied parts alone load a trial, and have the digest of what is installed."""
    copy_code(tmp_path / "wtsbench")
    code = "import wtsbench.trial.run, wtsbench.worker.fork_server; print(wtsbench.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert Path(done.stdout.strip()).is_relative_to(tmp_path)
    assert not (tmp_path / "wtsbench" / "sandbox").exists()
    assert len(code_digest()) == 64


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip finds packages; wheels are added by `put_wheel`."""
    for name in ("TORCH_INDEX_URL", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    monkeypatch.setenv("WTSBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "links").mkdir()
    (tmp_path / "requirements.txt").write_text("# pinned\ntorch==9.9\n")
    return tmp_path / "links"


def put_wheel(links: Path, version: str) -> None:
    """An empty torch of this version."""
    with zipfile.ZipFile(links / f"torch-{version}-py3-none-any.whl", "w") as wheel:
        folder = f"torch-{version}.dist-info"
        wheel.writestr(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        wheel.writestr(
            f"{folder}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{folder}/RECORD", "")


def fetched(links: Path, *, gpu: bool) -> list[str]:
    """Names of the wheels that a build would take."""
    folder = wheelhouse(links.parent / "requirements.txt", python="3.11", gpu=gpu, note=lambda line: None)
    return sorted(path.name for path in folder.iterdir())


def test_without_a_gpu_the_cpu_build_of_torch_is_taken_where_there_is_one(links: Path) -> None:
    """A CUDA build is gigabytes larger; where no CPU build is found the ordinary one serves."""
    put_wheel(links, "9.9")
    assert fetched(links, gpu=True) == ["torch-9.9-py3-none-any.whl"]
    assert fetched(links, gpu=False) == ["torch-9.9-py3-none-any.whl"]

    links.parent.joinpath("requirements.txt").write_text("torch==9.9\n")
    put_wheel(links, "9.9+cpu")
    assert fetched(links, gpu=False) == ["torch-9.9+cpu-py3-none-any.whl"]


def test_an_image_for_gpus_takes_no_cpu_build(links: Path) -> None:
    """Where pip finds nothing but the CPU build, which matches the version, the build is refused and not passed off."""
    links.parent.joinpath("requirements.txt").write_text("torch==9.9\n")
    put_wheel(links, "9.9+cpu")

    with pytest.raises(SandboxError, match="no build of torch with CUDA"):
        fetched(links, gpu=True)
    assert fetched(links, gpu=False) == ["torch-9.9+cpu-py3-none-any.whl"]


def test_wheels_are_fetched_once(links: Path) -> None:
    """A second build needs no package index."""
    put_wheel(links, "9.9")
    first = fetched(links, gpu=False)
    (links / first[0]).unlink()

    assert fetched(links, gpu=False) == first


def test_a_package_that_cannot_be_had_is_named(links: Path) -> None:
    """The error has pip's own words, and nothing half-fetched is taken for whole later."""
    with pytest.raises(SandboxError, match=r"torch==9\.9"):
        fetched(links, gpu=False)

    put_wheel(links, "9.9")
    assert fetched(links, gpu=False) == ["torch-9.9-py3-none-any.whl"]


def archived(folder: Path, *, when: int, owner: str) -> list[bytes]:
    """A folder as an engine archives it: in the order of names, with dates and owners of the build."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for path in (folder, *sorted(folder.rglob("*"))):
            info = tar.gettarinfo(path, arcname=f"app/{path.relative_to(folder).as_posix()}".removesuffix("/."))
            info.mtime, info.uname = when, owner
            with path.open("rb") if info.isreg() else io.BytesIO() as content:
                tar.addfile(info, content)
    return [sink.getvalue()[start : start + 700] for start in range(0, len(sink.getvalue()), 700)]


def test_a_layer_is_the_same_for_the_same_files(tmp_path: Path) -> None:
    """Dates and owners of a build are not in it; contents, links and the right to execute are."""
    folder = tmp_path / "app"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "code.py").write_text("x = 1\n" * 500)
    (folder / "program").write_text("#!/bin/sh\n")
    (folder / "program").chmod(0o755)
    (folder / "link").symlink_to("program")

    first = make_layer(archived(folder, when=1, owner="a"), tmp_path / "first.tar", inside="opt")
    second = make_layer(archived(folder, when=2, owner="b"), tmp_path / "second.tar", inside="opt")
    (folder / "inner" / "code.py").write_text("x = 2\n" * 500)
    third = make_layer(archived(folder, when=1, owner="a"), tmp_path / "third.tar", inside="opt")

    assert first == second != third
    assert first == f"sha256:{hashlib.sha256((tmp_path / 'first.tar').read_bytes()).hexdigest()}"
    with tarfile.open(tmp_path / "first.tar") as tar:
        names = ["opt/app", "opt/app/inner", "opt/app/inner/code.py", "opt/app/link", "opt/app/program"]
        assert tar.getnames() == names
        assert tar.getmember("opt/app/link").linkname == "program"
        assert [tar.getmember(names[number]).mode for number in (2, 4)] == [0o644, 0o755]


def test_a_configuration_is_the_same_for_the_same_parts() -> None:
    """An image's id depends on what is in it and on nothing of the engine or the hour it was built at."""
    base = {"Id": ID, "RootFS": {"Layers": [ID]}, "Os": "linux", "Architecture": "amd64", "Created": "today"}
    settings = {"User": "1:1", "Env": ["A=b"], "Image": ID, "Hostname": "x", "Labels": {"b": "c", "a": "d"}}

    first = configuration(base, settings, [OTHER])
    second = configuration({**base, "Created": "tomorrow"}, {**settings, "Image": OTHER, "Hostname": "y"}, [OTHER])

    assert first == second
    assert layers_of(first) == [ID, OTHER]
    assert json.loads(first)["config"] == {"User": "1:1", "Env": ["A=b"], "Labels": {"a": "d", "b": "c"}}


def wheel_of(folder: Path, name: str, *needs: str) -> Path:
    """A wheel of one empty module."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        lines = [f"Requires-Dist: {need}\n" for need in needs]
        wheel.writestr(f"{name}.py", "")
        info = f"{name}-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{''.join(lines)}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def test_packages_of_others_come_in_without_traces_of_this_machine(tmp_path: Path) -> None:
    """A wheel is unpacked with its version known, and no path of where it was is left in it."""
    wheel = wheel_of(tmp_path, "mine", "wtsbench", "numpy>=1")
    lock = tmp_path / "lock.txt"
    lock.write_text("# pinned\nnumpy==2.0\n")

    assert unpack([str(wheel)], tmp_path / "in", python="3.11", lock=lock) == ("mine==1.0",)

    texts = [path.read_text() for path in (tmp_path / "in").rglob("*") if path.is_file()]
    assert [text for text in texts if str(tmp_path) in text] == []
    assert "direct_url" not in "".join(texts)


def test_packages_of_others_bring_nothing_along_unnoticed(tmp_path: Path) -> None:
    """What a package needs and the image lacks is named, as is a package without its version or that is nowhere."""
    (tmp_path / "lock.txt").write_text("numpy==2.0\n")
    for wanted, said in (
        (str(wheel_of(tmp_path, "greedy", "pandas>2")), "--with pandas==VERSION"),
        ("numpy", "--with numpy names no exact version"),
        ("./absent.whl", "no such file"),
    ):
        with pytest.raises(SpecError) as refused:
            unpack([wanted], tmp_path / Path(wanted).stem, python="3.11", lock=tmp_path / "lock.txt")
        assert said in str(refused.value)


def test_the_packages_for_nodes_are_all_that_wtsbench_needs() -> None:
    """What a bundle carries is installed here at the version that is tested, with what each package needs in turn."""
    root = checkout()
    if root is None:
        pytest.skip("constraints.txt is not part of the wheel")
    needed = dict(one.split("==") for one in needed_by("wtsbench"))

    assert {"torch", "ray", "duckdb", "docker", "datasets", "click", "idna"} <= set(needed)
    assert "pytest" not in needed
    constraints = pinned(root / "constraints.txt")
    assert {
        name: version for name, version in needed.items() if constraints.get(name) != version.partition("+")[0]
    } == {}

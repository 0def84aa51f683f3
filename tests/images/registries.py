"""A real registry on loopback, and images of a few bytes to push into it."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.ports import free_port
from wtsbench.images import oci
from wtsbench.images.code import digest_of
from wtsbench.images.docker_engine import CODE_LABEL
from wtsbench.images.registry import VERSION_LABEL

CODE = {"__init__.py": b"# tiny\n", "trial/run.py": b"print('tiny')\n"}
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """Debian's `docker-registry` with its storage in a folder."""

    def __init__(self, folder: Path) -> None:
        self.storage = folder / "storage"
        self.address = ""
        self._settings = folder / "registry.yml"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it at a free port, and wait until it answers."""
        self.address = f"127.0.0.1:{free_port()}"
        self._settings.write_text(
            "version: 0.1\nlog: {level: error}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.storage}}}}}\nhttp: {{addr: {self.address}}}\n"
        )
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(self._settings)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                self.ask("/v2/")
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
            else:
                return
        raise AssertionError("the registry does not come up")

    def stop(self) -> None:
        """Stop it; nobody answers at its address then."""
        if self._process is not None:
            with self._process:
                self._process.kill()
            self._process = None

    def ask(self, path: str, *, method: str = "GET", body: bytes | None = None, kind: str = "*/*") -> bytes:
        """Talk to it directly, as no engine is needed for."""
        request = urllib.request.Request(f"http://{self.address}{path}", method=method, data=body)
        request.add_header("Content-Type" if body is not None else "Accept", kind)
        with urllib.request.urlopen(request, timeout=10) as answer:
            content: bytes = answer.read()
        return content

    def manifest(self, repository: str, reference: str) -> dict[str, Any]:
        """The manifest that it holds under a tag or a digest."""
        found: dict[str, Any] = json.loads(self.ask(f"/v2/{repository}/manifests/{reference}", kind=MANIFEST))
        return found

    def tamper(self, digest: str) -> None:
        """Change a byte of a blob in its storage."""
        name = digest.removeprefix("sha256:")
        path = self.storage / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    def push_index(self, repository: str, tag: str, platforms: Mapping[str, str]) -> str:
        """Put an index under a tag: for each architecture the digest of a manifest; its own digest."""
        manifests = []
        for architecture, digest in platforms.items():
            size = len(self.ask(f"/v2/{repository}/manifests/{digest}", kind=MANIFEST))
            platform = {"os": "linux", "architecture": architecture}
            manifests.append({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": platform})
        body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode()
        self.ask(f"/v2/{repository}/manifests/{tag}", method="PUT", body=body, kind=INDEX)
        return f"sha256:{hashlib.sha256(body).hexdigest()}"


@contextmanager
def running_registry(folder: Path) -> Iterator[Registry]:
    """A registry that answers, and is gone at the end."""
    registry = Registry(folder)
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()


def registry_is_there() -> bool:
    """Whether the program is installed."""
    return shutil.which("docker-registry") is not None


def make_image(
    client: Any, folder: Path, tag: str, *, code: Mapping[str, bytes] = CODE, architecture: str = "amd64", **labels: str
) -> str:
    """An image of one small layer with code and labels as a trial image has them; its id."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in {**code, "salt.bin": os.urandom(64)}.items():
            info = tarfile.TarInfo(f"wtsbench/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    layer = oci.make_layer([archive.getvalue()], folder / "layer.tar", inside="opt/wtsbench/code")
    nothing = {"Id": "sha256:none", "RootFS": {"Layers": []}, "Os": "linux", "Architecture": architecture}
    said = {CODE_LABEL: digest_of(code), VERSION_LABEL: "1.0", **labels}
    config = oci.configuration(nothing, {"Labels": said, "Cmd": ["/nothing"]}, [layer])
    return oci.put_image(client, config, {layer: oci.File(folder / "layer.tar")}, tag)

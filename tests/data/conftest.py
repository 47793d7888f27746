"""Small published sets in torchvision's layout, a local server for them, no internet access."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100, KMNIST, MNIST, FashionMNIST

REFUSED = "http://127.0.0.1:9/"  # nothing listens there: refused at once


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for source in (FashionMNIST, MNIST, KMNIST):
        monkeypatch.setattr(source, "mirrors", [REFUSED])
    for source in (CIFAR10, CIFAR100):
        monkeypatch.setattr(source, "url", REFUSED + source.filename)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


@dataclass
class SmallFashion:
    """30 training and 20 test images under Fashion-MNIST's names, not yet on disk."""

    raw: Path
    packed: dict[str, bytes]

    @property
    def data_dir(self) -> Path:
        return self.raw.parent.parent

    def put(self, *names: str) -> None:
        self.raw.mkdir(parents=True, exist_ok=True)
        for name in names or self.packed:
            (self.raw / name).write_bytes(self.packed[name])


@pytest.fixture
def small_fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallFashion:
    random = np.random.default_rng(0)
    packed = {}
    for split, count in (("train", 30), ("t10k", 20)):
        for what, values in (
            ("images-idx3", random.integers(0, 256, (count, 28, 28), dtype=np.uint8)),
            ("labels-idx1", np.arange(count, dtype=np.uint8) % np.uint8(10)),
        ):
            packed[f"{split}-{what}-ubyte.gz"] = gzip.compress(idx(values), mtime=0)
    resources = [(name, md5(content)) for name, content in packed.items()]
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    return SmallFashion(tmp_path / "data/FashionMNIST/raw", packed)


@pytest.fixture
def small_cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with a cifar-100-python.tar.gz of 40 training and 30 test images."""
    random = np.random.default_rng(0)
    kinds = {"fine": 100, "coarse": 20}
    names = {f"{it}_label_names": [f"{it} {k}" for k in range(n)] for it, n in kinds.items()}
    members: dict[str, dict[str, object]] = {"meta": {**names}}
    for name, count in (("train", 40), ("test", 30)):
        labels = {f"{it}_labels": random.integers(0, n, count).tolist() for it, n in kinds.items()}
        pixels = random.integers(0, 256, (count, 3072), dtype=np.uint8)
        members[name] = {"data": pixels, **labels}
    stream, digests = io.BytesIO(), {}
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, value in members.items():
            content = pickle.dumps(value)
            digests[name] = md5(content)
            header = tarfile.TarInfo(f"cifar-100-python/{name}")
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / CIFAR100.filename).write_bytes(stream.getvalue())
    monkeypatch.setattr(CIFAR100, "tgz_md5", md5(stream.getvalue()))
    for name in ("train", "test"):
        monkeypatch.setattr(CIFAR100, f"{name}_list", [[name, digests[name]]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": digests["meta"]})
    return tmp_path / "data"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, bytes]], list[str]]]:
    """Serves contents by name as Fashion-MNIST's second mirror; returns the names requested."""
    running: list[ThreadingHTTPServer] = []

    def start(contents: dict[str, bytes]) -> list[str]:
        got: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                got.append(self.path.strip("/"))
                if (content := contents.get(got[-1])) is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(http)
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        mirrors = [REFUSED, f"http://127.0.0.1:{http.server_port}/"]
        monkeypatch.setattr(FashionMNIST, "mirrors", mirrors)
        return got

    yield start
    for http in running:
        http.shutdown()
        http.server_close()

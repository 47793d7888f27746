"""Small published sets in torchvision's layout, a local server for them, and no way to the net."""

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

REFUSED = "http://127.0.0.1:9/"  # nobody listens there: refused at once


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
    members: dict[str, dict[str, object]] = {
        "meta": {
            "fine_label_names": [f"fine {k}" for k in range(100)],
            "coarse_label_names": [f"coarse {k}" for k in range(20)],
        }
    }
    for name, count in (("train", 40), ("test", 30)):
        members[name] = {
            "data": random.integers(0, 256, (count, 3072), dtype=np.uint8),
            "fine_labels": random.integers(0, 100, count).tolist(),
            "coarse_labels": random.integers(0, 20, count).tolist(),
        }
    stream = io.BytesIO()
    digests = {}
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, value in members.items():
            content = pickle.dumps(value)
            digests[name] = md5(content)
            header = tarfile.TarInfo(f"cifar-100-python/{name}")
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / CIFAR100.filename).write_bytes(stream.getvalue())
    monkeypatch.setattr(CIFAR100, "tgz_md5", md5(stream.getvalue()))
    monkeypatch.setattr(CIFAR100, "train_list", [["train", digests["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", digests["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": digests["meta"]})
    return data_dir


@dataclass
class Server:
    """got: the names that were asked for."""

    url: str
    got: list[str]


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, bytes]], Server]]:
    """Starts a web server on this machine that serves the given contents by name."""
    running: list[ThreadingHTTPServer] = []

    def start(content: dict[str, bytes]) -> Server:
        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer()

            def do_GET(self) -> None:
                server.got.append(self.path.strip("/"))
                self.wfile.write(self.answer())

            def answer(self) -> bytes:
                body = content.get(self.path.strip("/"))
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                return body or b""

            def log_message(self, *_: object) -> None:
                pass

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(http)
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        server = Server(f"http://127.0.0.1:{http.server_port}/", [])
        return server

    yield start
    for http in running:
        http.shutdown()
        http.server_close()

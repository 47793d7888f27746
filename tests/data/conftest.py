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
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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
    kinds = (("fine", 100), ("coarse", 20))
    members: dict[str, dict[str, object]] = {
        "meta": {f"{kind}_label_names": [f"{kind} {k}" for k in range(n)] for kind, n in kinds}
    }
    for name, count in (("train", 40), ("test", 30)):
        pixels = {"data": random.integers(0, 256, (count, 3072), dtype=np.uint8)}
        labels = {f"{kind}_labels": random.integers(0, n, count).tolist() for kind, n in kinds}
        members[name] = {**pixels, **labels}
    stream, digests = io.BytesIO(), {}
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
def serve(tmp_path: Path) -> Iterator[Callable[[dict[str, bytes]], Server]]:
    """Starts a web server on this machine that serves the given contents by name."""
    running: list[ThreadingHTTPServer] = []

    def start(content: dict[str, bytes]) -> Server:
        folder = tmp_path / f"served{len(running)}"
        folder.mkdir()
        for name, body in content.items():
            (folder / name).write_bytes(body)
        got: list[str] = []

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                got.append(self.path.strip("/"))
                super().do_GET()

            def log_message(self, *_: object) -> None:
                pass

        http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        running.append(http)
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        return Server(f"http://127.0.0.1:{http.server_port}/", got)

    yield start
    for http in running:
        http.shutdown()
        http.server_close()

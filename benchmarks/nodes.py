"""One study on a real Ray cluster whose nodes are removed in mid-trial, with other failures.

    python -m benchmarks.nodes --removals 10

Four nodes of one CPU, PostgreSQL, digits, checkpoints in a folder that all nodes share. Nodes are
removed without notice, and others added; then the command is killed and restarted, the server is
stopped for 10 s, and the command is interrupted with Ctrl-C and restarted. At the end every report
that was ever in the database must be there, and the total exact. Meanwhile the checkpoints are
watched: no trial may resume from before its last one.

With `--namespaces` (Linux, root, iproute2) each node has its own network, as a real machine has,
and reaches the others and PostgreSQL over a bridge.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import ExitStack, closing, suppress
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import psutil
import torch
from ray.cluster_utils import Cluster

from benchmarks.crowd import private_server
from benchmarks.record import ROOT, BenchmarkParser, environment, write_json
from search import load_study
from search.store import StorageError
from search.store.opening import open_database
from search.store.records import EpochRow, epochs_of

NODES, EPOCHS = 4, 12
STUDY = f"""\
[study]
trials = {{trials}}
epochs = {EPOCHS}
pruner = "none"

[space]
depth = 3
width = 24
learning_rate = {{{{ low = 1e-3, high = 1e-2, log = true }}}}
augmentation = "flip-crop-erase"
"""


class Watch(threading.Thread):
    """Watches checkpoints while the study runs; `steps_back` must stay empty."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._folder, self._epochs = folder, defaultdict[str, int](int)
        self.steps_back: list[str] = []

    def run(self) -> None:
        while True:
            for file in self._folder.glob("*/trial-*[0-9].pt"):
                with suppress(Exception):  # it is being replaced, or gone
                    epoch = torch.load(file, weights_only=False)["training"]["epoch"]
                    if epoch < self._epochs[file.name]:
                        self.steps_back.append(f"{file.name}: {self._epochs[file.name]} to {epoch}")
                    self._epochs[file.name] = epoch
            time.sleep(0.1)


class Hosts:
    """A Ray cluster whose nodes are network namespaces on a bridge; as much of `Cluster` as needed.

    The head, which trains nothing, is this machine at the bridge's own address.
    """

    BRIDGE, NETWORK = "cnn-search", "10.213.47"

    def __init__(self) -> None:
        self.address = f"{self.NETWORK}.1:6379"
        self._numbers = count(2)
        self._ip(f"link add {self.BRIDGE} type bridge")
        self._ip(f"addr add {self.NETWORK}.1/24 dev {self.BRIDGE}")
        self._ip(f"link set {self.BRIDGE} up")
        self._head = self._ray(1, "--head --port 6379 --num-cpus 0 --include-dashboard false")
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}

    def _ip(self, words: str) -> None:
        subprocess.run(["ip", *words.split()], check=True)

    def _ray(self, number: int, words: str, *within: str) -> subprocess.Popen[bytes]:
        command = f"start --block --node-ip-address {self.NETWORK}.{number} {words}"
        process = subprocess.Popen(
            [*within, str(Path(sys.executable).with_name("ray")), *command.split()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        # One by one: started together they would take each other's sockets in the shared folder.
        assert any(b"Ray runtime started" in line for line in process.stdout), words
        return process

    def add_node(self, num_cpus: int) -> int:
        number = next(self._numbers)
        name = f"{self.BRIDGE}-{number}"
        self._ip(f"netns add {name}")
        self._ip(f"link add cable{number} type veth peer name eth0 netns {name}")
        self._ip(f"link set cable{number} master {self.BRIDGE} up")
        for words in (f"addr add {self.NETWORK}.{number}/24 dev eth0", "link set eth0 up"):
            self._ip(f"-n {name} {words}")
        self._ip(f"-n {name} link set lo up")
        words = f"--address {self.address} --num-cpus {num_cpus}"
        self._nodes[number] = self._ray(number, words, "ip", "netns", "exec", name)
        return number

    def remove_node(self, number: int, allow_graceful: bool = False) -> None:
        self._kill(self._nodes.pop(number))
        self._ip(f"netns del {self.BRIDGE}-{number}")  # and its cable

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill it with everything that it started, even what has its own session."""
        own = psutil.Process(process.pid)
        for it in [*own.children(recursive=True), own]:
            with suppress(psutil.NoSuchProcess):
                it.kill()
        process.wait()

    def shutdown(self) -> None:
        for number in list(self._nodes):
            self.remove_node(number)
        self._kill(self._head)
        self._ip(f"link del {self.BRIDGE}")


def seen_report(row: EpochRow) -> tuple[int, int, float]:
    return row.trial_number, row.epoch, row.validation_loss


def reports(url: str) -> list[EpochRow]:
    with suppress(StorageError, KeyError), closing(open_database(url)) as db:
        return epochs_of(db, db.optuna.get_study_id_from_name("s"))
    return []


def main() -> None:
    parser = BenchmarkParser(__doc__)
    parser.add_counts(("removals", 10, "of nodes"), ("trials", 120, "of the study"))
    words = "give each node its own network"
    parser.add_argument("--namespaces", action="store_true", help=words)
    parser.add("json")
    args = parser.parse_args()
    with ExitStack() as leaving:
        cluster: Any = None
        if args.namespaces:
            os.environ["RAY_AUTH_MODE"] = "disabled"  # they cannot be reached from outside
            cluster = Hosts()
        else:
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        leaving.callback(cluster.shutdown)
        result = measure(cluster, args)
    print(result)
    write_json(args.json, result)


def measure(cluster: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Run the study, and check what must hold at the end."""
    nodes = [cluster.add_node(num_cpus=1) for _ in range(NODES)]
    host = f"{Hosts.NETWORK}.1" if args.namespaces else None
    with (
        private_server(4 * NODES, host) as (server, url),
        tempfile.TemporaryDirectory() as folder,
        Path(folder, "said").open("w") as said,
    ):
        Path(folder, "study.toml").write_text(STUDY.format(trials=args.trials))
        kept = Path(folder, "kept")
        watch, seen, began = Watch(kept), set[Any](), time.monotonic()
        watch.start()

        def start() -> subprocess.Popen[bytes]:
            words = f"--config study.toml --dataset digits --study s --ray {cluster.address} "
            words += f"--workers {NODES} --checkpoints file://{kept}"
            return subprocess.Popen(
                [sys.executable, "-m", "search.study", *words.split()],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "SEARCH_STORAGE": url},
                stdout=said,
                stderr=said,
            )

        def wait_for_new(wanted: int = 2 * NODES) -> None:
            """Wait for that many more reported epochs, by as many workers as there are nodes."""
            before = {seen_report(row) for row in reports(url)}
            while True:
                if command.poll() is not None:
                    print(Path(said.name).read_text()[-3000:])
                    raise RuntimeError("the study has ended: give it more --trials")
                new = [row for row in reports(url) if seen_report(row) not in before]
                if len(new) >= wanted and len({row.worker for row in new}) >= NODES:
                    seen.update(map(seen_report, new), before)
                    return
                time.sleep(0.5)

        command = start()
        for number in range(args.removals):
            wait_for_new()
            cluster.remove_node(nodes.pop(0), allow_graceful=False)
            nodes.append(cluster.add_node(num_cpus=1))
            print(f"removal {number + 1}, {len(seen)} reports", flush=True)
        wait_for_new()
        command.kill()
        command.wait()
        command = start()
        wait_for_new()
        server.stop()
        time.sleep(10)
        server.start(listen_addresses=host or "")
        wait_for_new()
        command.send_signal(signal.SIGINT)
        interrupted = time.monotonic()
        assert command.wait(60) == 130
        interrupted = time.monotonic() - interrupted
        command = start()
        assert command.wait() == 0
        rows = reports(url)
        view = load_study("s", storage=url)
    assert [trial.state for trial in view.trials] == ["complete"] * args.trials
    assert [(row.trial_number, row.epoch) for row in rows] == [
        (number, epoch) for number in range(args.trials) for epoch in range(EPOCHS + 1)
    ]
    assert seen <= set(map(seen_report, rows)), "reports that were there are missing"
    taken_over = sum(
        a.trial_number == b.trial_number and a.worker != b.worker for a, b in pairwise(rows)
    )
    return {
        "removals": args.removals,
        "trials": args.trials,
        "namespaces": args.namespaces,
        "taken_over": taken_over,
        "began_before_the_last_checkpoint": watch.steps_back,
        "ctrl_c_seconds": interrupted,
        "seconds": time.monotonic() - began,
        **environment("nodes"),
    }


if __name__ == "__main__":
    main()

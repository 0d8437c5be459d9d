"""The README's line for two hosts, on two hosts of this machine: network namespaces with names and a cable."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.test_job import read

pytestmark = pytest.mark.slow

Train = Callable[..., subprocess.CompletedProcess[str]]

PREFIX = "distkmeans-"
CABLE = "cable"
ADDRESSES = {"alpha": "10.77.0.1", "beta": "10.77.0.2"}
ENTER = 'hostname "$1" && mount --bind "$2" /etc/hosts && eval "$3" && shift 3 && exec "$@"'
LONG = ("init=random", "solver.tol=0", "solver.max_iter=100000")


def sh(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


@dataclass
class Host:
    """A network namespace in which ``name`` is the host's name, ``names`` its /etc/hosts and ``log`` what it said."""

    name: str
    folder: Path

    @property
    def space(self) -> str:
        return f"{PREFIX}{os.getpid()}-{self.name}"

    @property
    def names(self) -> Path:
        return self.folder / f"{self.name}.hosts"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def inside(self, *command: str, first: str = "true") -> list[str]:
        """``command`` as this host runs it, after the shell command ``first``, whose mounts no other host sees."""
        enter = ["ip", "netns", "exec", self.space, "unshare", "--uts", "--mount", "sh", "-c", ENTER, "sh"]
        return [*enter, self.name, str(self.names), first, *command]

    def start(self, command: list[str], first: str = "true", **variables: str) -> subprocess.Popen[bytes]:
        with open(self.log, "wb") as output:
            return subprocess.Popen(
                self.inside(*command, first=first),
                env={**os.environ, **variables},
                cwd=self.folder,
                stdout=output,
                stderr=output,
            )

    def knows(self, **names: str) -> None:
        lines = [f"{address} {name}\n" for name, address in {"localhost": "127.0.0.1", **names}.items()]
        self.names.write_text("".join(lines))

    def cable(self, state: str) -> None:
        sh("ip", "-n", self.space, "link", "set", CABLE, state)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """alpha and beta, joined by a cable. Their disks are this machine's: what one writes, both see."""
    remove(leftovers())
    pair = Host("alpha", tmp_path), Host("beta", tmp_path)
    try:
        build_or_skip(*pair)
        yield pair
    finally:
        remove([host.space for host in pair])


def build_or_skip(one: Host, other: Host) -> None:
    try:
        build(one, other)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or ""
        reason = f"no network namespaces (they need root, and apt-get install iproute2): {error} {said}".strip()
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)


def build(one: Host, other: Host) -> None:
    for host in (one, other):
        sh("ip", "netns", "add", host.space)
    sh("ip", "link", "add", CABLE, "netns", one.space, "type", "veth", "peer", "name", CABLE, "netns", other.space)
    for host in (one, other):
        sh("ip", "-n", host.space, "addr", "add", f"{ADDRESSES[host.name]}/24", "dev", CABLE)
        sh("ip", "-n", host.space, "link", "set", "lo", "up")
        host.cable("up")
        host.knows(**ADDRESSES)
    for host in (one, other):
        assert sh(*host.inside("hostname")).strip() == host.name


def leftovers() -> list[str]:
    """Namespaces of test processes that are gone."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        owners = re.findall(rf"^({PREFIX}(\d+)-\w+)", sh("ip", "netns", "list"), re.MULTILINE)
        return [space for space, owner in owners if not Path("/proc", owner).exists()]
    return []


def remove(spaces: list[str]) -> None:
    for space in spaces:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            kill(space)
            sh("ip", "netns", "del", space)


def kill(space: str) -> None:
    """End every process of a namespace as a crash would."""
    for process in sh("ip", "netns", "pids", space).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)


def readme_line(folder: Path) -> list[str]:
    """The line as a user types it on two hosts, with alpha for HOST and a folder of ours for /shared."""
    found = re.search(r"^torchrun --nnodes=2(?:.*\\\n)*.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert found, "README.md shows no line that starts with torchrun --nnodes=2"
    line = found.group().replace("\\\n", " ").replace("/shared/", f"{folder}/")
    words = shlex.split(line.replace("HOST", "alpha").replace("JOB", "job").replace("train.py", str(ROOT / "train.py")))
    return [sys.executable, "-m", "torch.distributed.run", *words[1:]]


@pytest.fixture
def line(tmp_path: Path) -> list[str]:
    """The README's command, with the rows that it reads."""
    x = np.random.default_rng(0).standard_normal((40_000, 16), dtype=np.float32)
    np.save(tmp_path / "embeddings.npy", x)
    (tmp_path / "runs").mkdir()
    return readme_line(tmp_path)


def alone(train: Train, line: list[str], *more: str) -> Path:
    """The run directory of one process that is told the same."""
    overrides = line[line.index(str(ROOT / "train.py")) + 1 :]
    one = run_dir(line).with_name("one")
    done = train(*[word for word in overrides if not word.startswith("run.dir=")], f"run.dir={one}", *more)
    assert done.returncode == 0, done.stderr
    return one


def run_dir(line: list[str]) -> Path:
    return next(Path(word.removeprefix("run.dir=")) for word in line if word.startswith("run.dir="))


def wait_for_lines(run: Path, count: int) -> None:
    """Wait until metrics.jsonl holds so many lines."""
    metrics = run / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not metrics.exists() or metrics.read_text().count("\n") < count:
        assert time.monotonic() < deadline, f"{metrics}: fewer than {count} lines after 60 s"
        time.sleep(0.05)


def ended(started: list[subprocess.Popen[bytes]], timeout: float) -> list[int]:
    """The exit status of each, all within so many seconds."""
    deadline = time.monotonic() + timeout
    return [process.wait(max(0.1, deadline - time.monotonic())) for process in started]


def said(hosts: tuple[Host, Host]) -> str:
    return "".join(host.log.read_text() for host in hosts)


def check_finished(hosts: tuple[Host, Host], run: Path, one: Path) -> None:
    assert said(hosts).count("results in") == 1
    assert json.loads((run / "summary.json").read_text())["world_size"] == 4
    assert sorted(part.name for part in (run / "labels").iterdir()) == [
        f"part-0000{rank}-of-00004.npy" for rank in range(4)
    ]
    assert read(run) == read(one)


def test_the_readmes_line_on_two_hosts(hosts: tuple[Host, Host], line: list[str], train: Train) -> None:
    assert ended([host.start(line) for host in hosts], 90) == [0, 0], said(hosts)
    check_finished(hosts, run_dir(line), alone(train, line))


def test_hosts_whose_own_name_is_a_loopback_address(hosts: tuple[Host, Host], line: list[str], train: Train) -> None:
    for host in hosts:  # as Debian and Ubuntu install it
        host.knows(**{**ADDRESSES, host.name: "127.0.1.1"})
    started = [host.start(line, GLOO_SOCKET_IFNAME=CABLE) for host in hosts]
    assert ended(started, 90) == [0, 0], said(hosts)
    check_finished(hosts, run_dir(line), alone(train, line))


@pytest.mark.parametrize("there", ["", "an empty run.dir of its own"])
def test_a_host_that_does_not_see_the_run_directory(hosts: tuple[Host, Host], line: list[str], there: str) -> None:
    run = run_dir(line)
    hide = f"mount -t tmpfs none {shlex.quote(str(run.parent))}"
    if there:
        hide += f" && mkdir {shlex.quote(str(run))}"
    started = [hosts[0].start(line), hosts[1].start(line, first=hide)]
    assert 0 not in ended(started, 90), said(hosts)
    errors = [text for text in said(hosts).splitlines() if "distkmeans: error:" in text]
    assert len(errors) == 1, said(hosts)
    assert "does not see the folder that rank 0 writes to" in errors[0]
    assert errors[0] in hosts[0].log.read_text()
    assert not (run / "summary.json").exists()


def test_a_host_that_dies_ends_the_other(hosts: tuple[Host, Host], line: list[str]) -> None:
    run = run_dir(line)
    started = [host.start([*line, *LONG]) for host in hosts]
    wait_for_lines(run, 3)
    kill(hosts[1].space)
    assert 0 not in ended(started, 40), said(hosts)
    assert said(hosts).count("distkmeans: error: rank 2, 3 is gone: ") == 1
    records = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["iteration"] for record in records] == list(range(1, len(records) + 1))
    assert len(records) >= 3
    assert not (run / "summary.json").exists()


def test_a_cable_pulled_for_seconds_changes_nothing(hosts: tuple[Host, Host], line: list[str], train: Train) -> None:
    more = ("init=random", "solver.tol=0", "solver.max_iter=80")
    run = run_dir(line)
    started = [host.start([*line, *more]) for host in hosts]
    wait_for_lines(run, 3)
    hosts[1].cable("down")
    time.sleep(5)
    assert [process.poll() for process in started] == [None, None], said(hosts)
    hosts[1].cable("up")
    assert ended(started, 90) == [0, 0], said(hosts)
    check_finished(hosts, run, alone(train, line, *more))

"""What the tests of facts share: recorded answers of real commands, and private network namespaces to ask in."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent / "samples"

#: A shell script that runs in a new network namespace -> the process that keeps it alive.
MakeNamespace = Callable[[str], int]


@pytest.fixture
def sample() -> Callable[[str], list[str]]:
    """The lines of a recorded answer, without the first one, which tells its command and situation."""
    return lambda name: (SAMPLES / name).read_text().splitlines()[1:]


@pytest.fixture
def namespace() -> Iterator[MakeNamespace]:
    """A network namespace with one process in it, which ends with the test, and the namespace with it."""
    if os.geteuid() != 0:
        pytest.fail("this test makes network namespaces: run it as root")
    started: list[subprocess.Popen[str]] = []

    def make(script: str) -> int:
        process = subprocess.Popen(
            ["unshare", "--net", "sh", "-ec", f"ip link set lo up\n{script}\necho ready\nexec sleep 600"],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process.pid

    yield make
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

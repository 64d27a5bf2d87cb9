"""The node's identity, recorded and real."""

import os
import platform
import subprocess
import time
from collections.abc import Callable

from facts.system import System


def test_a_node_in_a_container(sample: Callable[[str], list[str]]) -> None:
    assert System().read(sample("system.txt")) == {
        "os": "debian",
        "version": "12",
        "pretty_name": "Debian GNU/Linux 12 (bookworm)",
        "kernel": "6.18.44-fc-v669",
        "machine": "x86_64",
        "hostname": "fxnode",
        "uptime_s": 1594.55,
        "clock": 1795306931.0,
        "container": "systemd-nspawn",
        "euid": 0,
    }


def test_a_system_without_a_release_or_a_container() -> None:
    lines = ["kernel 6.1", "machine x86_64", "hostname n", "uptime 1.5", "clock 7", "euid 1000"]
    system = System().read(lines)
    assert system is not None
    assert (system["os"], system["pretty_name"], system["container"], system["euid"]) == ("", "", "", 1000)


def test_an_answer_without_a_kernel_is_a_failure() -> None:
    reading = System().reading({"output": ["machine x86_64"], "errors": [], "code": 0})
    assert (reading["state"], reading["value"]) == ("failed", None)


def test_this_machine() -> None:
    fact = System()
    answer = subprocess.run(["sh", "-c", fact.command()], capture_output=True, text=True, check=True)
    reading = fact.process(answer.stdout.splitlines())
    assert (reading["state"], reading["detail"]) == ("value", "")
    assert reading["value"] is not None
    assert reading["value"]["kernel"] == platform.release()
    assert reading["value"]["euid"] == os.geteuid()
    assert abs(reading["value"]["clock"] - time.time()) < 5

"""Listening sockets, and through them each state of a reading."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from facts.reading import Reading
from facts.sockets import MOST, ListeningSockets, Socket

Sample = Callable[[str], list[str]]

LISTEN_ON_LO = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
s.bind(("127.0.0.53", 53))
print("ready", flush=True)
time.sleep(600)
"""


def ask(path: str | None = None, limit: int = 10) -> Reading[list[Socket]]:
    fact = ListeningSockets()
    fact.limit = limit
    environment = os.environ | ({"PATH": path} if path is not None else {})
    answer = subprocess.run(
        ["/bin/sh", "-c", fact.command()], capture_output=True, text=True, env=environment, check=True
    )
    return fact.process(answer.stdout.splitlines())


def tools(directory: Path, ss: str | None) -> str:
    """A PATH with coreutils and awk, and with the script `ss` if there is to be one."""
    for name in ("sh", "timeout", "tr", "sed", "awk", "grep", "id", "uname", "sleep"):
        found = shutil.which(name)
        assert found is not None
        (directory / name).symlink_to(found)
    if ss is not None:
        (directory / "ss").write_text(f"#!/bin/sh\n{ss}\n")
        (directory / "ss").chmod(0o755)
    return str(directory)


def test_every_kind_of_socket(sample: Sample) -> None:
    sockets = ListeningSockets().read(sample("sockets.txt"))
    assert [(s["protocol"], s["address"], s["interface"], s["port"]) for s in sockets] == [
        ("udp", "0.0.0.0", "", 4789),
        ("udp", "172.25.4.1", "", 53),
        ("udp", "127.0.0.53", "lo", 53),
        ("udp", "::ffff:172.25.4.1", "", 5353),
        ("udp", "fe80::b4a4:93ff:fef6:6c47", "bond0", 53),
        ("tcp", "0.0.0.0", "", 10256),
        ("tcp", "127.0.0.53", "lo", 53),
        ("tcp", "172.25.4.1", "", 53),
        ("tcp", "::", "", 8081),
        ("tcp", "*", "", 8080),
    ]


def test_a_kernel_socket_has_no_owner(sample: Sample) -> None:
    vxlan = ListeningSockets().read(sample("sockets.txt"))[0]
    assert (vxlan["process"], vxlan["pid"], vxlan["owners"]) == ("", None, [])


def test_every_process_on_a_socket_is_an_owner(sample: Sample) -> None:
    shared = ListeningSockets().read(sample("sockets.txt"))[1]
    assert shared["owners"] == [{"process": 'my "odd" name', "pid": 6164}, {"process": 'my "odd" name', "pid": 6160}]
    assert (shared["process"], shared["pid"]) == ('my "odd" name', 6164)


def test_without_root_an_owner_that_is_not_shown_is_unknown_and_no_kernel_socket() -> None:
    lines = ["from netlink user 1000", "udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:*"]
    assert ListeningSockets().read(lines)[0]["owners"] is None


def test_from_proc_the_device_is_unknown() -> None:
    lines = ["from proc user 0", "udp UNCONN 0 0 127.0.0.53:53 0.0.0.0:*"]
    assert ListeningSockets().read(lines)[0]["interface"] is None


def test_a_real_socket_on_lo_in_a_namespace(namespace: Callable[[str], int]) -> None:
    enter = ["nsenter", "-t", str(namespace("")), "-n"]
    listener = subprocess.Popen([*enter, sys.executable, "-c", LISTEN_ON_LO], stdout=subprocess.PIPE, text=True)
    try:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "ready\n"
        fact = ListeningSockets()
        answer = subprocess.run([*enter, "sh", "-c", fact.command()], capture_output=True, text=True, check=True)
        reading = fact.process(answer.stdout.splitlines())
    finally:
        listener.kill()
        listener.communicate()
    assert reading["state"] == "value", reading["detail"]
    assert [(s["protocol"], s["address"], s["interface"], s["port"], s["pid"]) for s in reading["value"]] == [
        ("udp", "127.0.0.53", "lo", 53, listener.pid)
    ]


def test_state_value() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        reading = ask()
    assert (reading["state"], reading["detail"]) == ("value", "")
    assert [(s["protocol"], s["address"], s["pid"]) for s in reading["value"] if s["port"] == port] == [
        ("tcp", "127.0.0.1", os.getpid())
    ]


def test_state_empty(tmp_path: Path) -> None:
    reading = ask(tools(tmp_path, "exit 0"))
    assert (reading["state"], reading["value"], reading["detail"]) == ("empty", [], "")


def test_state_tool_missing(tmp_path: Path) -> None:
    reading = ask(tools(tmp_path, None))
    assert (reading["state"], reading["value"]) == ("tool missing", [])
    assert "ss" in reading["detail"]


def test_state_not_permitted(tmp_path: Path) -> None:
    refused = "echo 'Cannot open netlink socket: Permission denied' >&2; exit 1"
    assert ask(tools(tmp_path, refused))["state"] == "not permitted"


def test_state_timed_out(tmp_path: Path) -> None:
    assert ask(tools(tmp_path, "sleep 60"), limit=1)["state"] == "timed out"


@pytest.mark.parametrize("ss", ["echo 'ss: invalid option' >&2; exit 255", "echo dccp UNCONN 0 0 x:1 y:1"])
def test_state_failed(tmp_path: Path, ss: str) -> None:
    reading = ask(tools(tmp_path, ss))
    assert (reading["state"], reading["value"]) == ("failed", [])
    assert reading["detail"]


def test_many_sockets_are_cut_and_the_cut_is_told(tmp_path: Path) -> None:
    line = "udp UNCONN 0 0 127.0.0.1:53 0.0.0.0:*"
    reading = ask(tools(tmp_path, f"i=0; while [ $i -lt {MOST + 7} ]; do echo '{line}'; i=$((i+1)); done"))
    assert reading["state"] == "value"
    assert len(reading["value"]) == MOST
    assert reading["detail"] == f"truncated: {MOST} of {MOST + 7} sockets"


def test_an_unloaded_diag_module_is_not_loaded(tmp_path: Path) -> None:
    """ss sees PROC_ROOT, and so asks no netlink family that the kernel would have to load a module for."""
    path = tools(tmp_path, 'echo "udp UNCONN 0 0 127.0.0.1:${PROC_ROOT:+1}0 0.0.0.0:*"')
    # A node whose kernel has modules, of which neither is loaded or built in.
    fact = ListeningSockets()
    script = fact.script.replace("/proc/modules", "/proc/version").replace("/sys/module/", "/nonexistent/")
    fact.script = script.replace("/lib/modules/", "/nonexistent/")
    answer = subprocess.run(["/bin/sh", "-c", fact.command()], capture_output=True, text=True, env={"PATH": path})
    reading = fact.process(answer.stdout.splitlines())
    assert [(s["port"], s["interface"]) for s in reading["value"]] == [(10, None)]

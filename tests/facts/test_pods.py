"""Network namespaces with processes in them: recorded ones, and real ones that the test makes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from facts.interfaces import Interfaces
from facts.pods import MOST, Pod, Pods, host_interface
from facts.reading import Reading

Sample = Callable[[str], list[str]]
MakeNamespace = Callable[[str], int]


def ask(*before: str) -> Reading[list[Pod]]:
    fact = Pods()
    answer = subprocess.run([*before, "sh", "-c", fact.command()], capture_output=True, text=True, check=True)
    return fact.process(answer.stdout.splitlines())


def inside(pid: int, script: str) -> list[str]:
    command = ["nsenter", "-t", str(pid), "-n", "sh", "-ec", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def inode(pid: int) -> int:
    return Path(f"/proc/{pid}/ns/net").stat().st_ino


def test_a_pod_and_a_private_service(sample: Sample) -> None:
    private, pod = Pods().read(sample("pods.txt"))
    assert (private["addresses"], private["cgroup"]) == ([], "/system.slice/privnet.service")
    interfaces = pod.pop("interfaces")  # type: ignore[misc]
    assert pod == {
        "netns": 4026533157,
        "pid": 580,
        "processes": ["sleep"],
        "addresses": ["172.26.2.145"],
        "nameservers": ["172.25.4.1"],
        "cgroup": "/system.slice/pody.service",
    }
    assert [(i["name"], i["index"], i["peer"]) for i in interfaces] == [("lo", 1, None), ("eth0", 4, 5)]


def test_the_nodes_end_of_the_veth_pair(sample: Sample) -> None:
    private, pod = Pods().read(sample("pods.txt"))
    interfaces = Interfaces().read(sample("interfaces-with-pod.txt"))
    assert host_interface(pod, interfaces) == "lxc1"
    assert host_interface(private, interfaces) == ""


def test_a_control_group_path_may_hold_colons() -> None:
    lines = [
        "namespace 7 8",
        "processes pause\tnginx: master",
        "cgroup 3:cpuset:/",
        "cgroup 0::/kubepods-pod1.slice:cri-containerd:0f",
        "links []",
    ]
    pod = Pods().read(lines)[0]
    assert pod["cgroup"] == "/kubepods-pod1.slice:cri-containerd:0f"
    assert pod["processes"] == ["pause", "nginx: master"]
    assert pod["addresses"] == pod["nameservers"] == []


def test_a_real_pod_on_a_real_node(namespace: MakeNamespace) -> None:
    node, pod_pid = namespace(""), namespace("")
    inside(node, f"ip link add lxc7 type veth peer name eth0 netns {pod_pid}; ip link set lxc7 up")
    inside(
        pod_pid, "ip addr add 172.26.2.145/32 dev eth0; ip addr add fd26::145/128 dev eth0 nodad; ip link set eth0 up"
    )
    reading = ask("nsenter", "-t", str(node), "-n")
    assert reading["state"] == "value"
    pod = next(pod for pod in reading["value"] if pod["netns"] == inode(pod_pid))
    assert (pod["pid"], pod["processes"]) == (pod_pid, ["sleep"])
    assert pod["addresses"] == ["172.26.2.145", "fd26::145"]
    fact = Interfaces()
    assert host_interface(pod, fact.process(inside(node, fact.command()))["value"]) == "lxc7"


def test_the_oldest_process_stands_for_its_namespace(namespace: MakeNamespace) -> None:
    pid = namespace("")
    later = subprocess.Popen(["nsenter", "-t", str(pid), "-n", "tail", "-f", "/dev/null"])
    try:
        while Path(f"/proc/{later.pid}/comm").read_text() != "tail\n":
            pass
        pod = next(pod for pod in ask()["value"] if pod["netns"] == inode(pid))
    finally:
        later.kill()
        later.wait()
    assert pod["pid"] == pid
    assert sorted(pod["processes"]) == ["sleep", "tail"]


@pytest.mark.parametrize("link", ["/inside/resolv.conf", "../inside/resolv.conf"])
def test_the_pods_own_resolv_conf_and_not_the_nodes(tmp_path: Path, link: str) -> None:
    """An absolute link in a pod's root must not be followed into the node's files."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/resolv.conf").write_text("search x\nnameserver 172.25.4.1\nnameserver fd25::1\n")
    (tmp_path / "etc/resolv.conf").symlink_to(link)
    program = f"import os, time; os.chroot({str(tmp_path)!r}); print('ready', flush=True); time.sleep(600)"
    command = ["unshare", "--net", sys.executable, "-c", program]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        pod = next(pod for pod in ask()["value"] if pod["netns"] == inode(process.pid))
    finally:
        process.kill()
        process.communicate()
    assert pod["nameservers"] == ["172.25.4.1", "fd25::1"]


def test_only_root_sees_pods() -> None:
    reading = ask("setpriv", "--reuid=65534", "--clear-groups")
    assert (reading["state"], reading["value"]) == ("not permitted", [])


def test_too_many_namespaces_are_cut_and_the_cut_is_told(namespace: MakeNamespace) -> None:
    namespace("")
    namespace("")
    fact = Pods()
    fact.script = fact.script.replace(f"i <= {MOST}", "i <= 1").replace(f"count > {MOST}", "count > 1")
    answer = subprocess.run(["sh", "-c", fact.command()], capture_output=True, text=True, check=True)
    reading = fact.process(answer.stdout.splitlines())
    assert (reading["state"], len(reading["value"])) == ("value", 1)
    assert f"truncated: {MOST} of " in reading["detail"]

"""kube-proxy as a node shows it: a process that answers as kube-proxy does, in each place where one may run."""

import base64
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyinfra.api.host import Host

from facts import snapshot
from facts.kube_proxy import KubeProxy
from facts.kube_proxy_answer import Proxy
from facts.reading import Reading
from lab.api import Lab
from operations import kube_proxy

Sample = Callable[[str], list[str]]

# What the real one served, on its two ports.
SERVER = r"""
import os, socket, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
pages = {"/proxyMode": sys.argv[1], "/metrics": open(sys.argv[2]).read(), "/healthz": "{}"}
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        page = pages.get(self.path)
        self.send_response(404 if page is None else 200)
        self.end_headers()
        self.wfile.write((page or "").encode())
    def log_message(self, *arguments): pass
metrics, health = os.environ.get("ADDRESSES", "127.0.0.1 127.0.0.1").split()
for address, port in ((metrics, 10249), (health, 10256)):
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
    threading.Thread(target=Server((address, port), Handler).serve_forever).start()
print("ready", flush=True)
"""

METRICS = """\
# HELP kubernetes_build_info A metric with a constant '1' value
kubernetes_build_info{build_date="",compiler="gc",git_version="v1.20.2",go_version="go1.19.8"} 1
kubeproxy_sync_proxy_rules_duration_seconds_count 5
"""

UNIT = "0::/system.slice/kube-proxy.service\n"
API_POD = (
    "0::/kubepods.slice/kubepods-besteffort.slice/"
    "kubepods-besteffort-pod7a5e1c0b_2f4d_4d7e_9b1a_0c2d3e4f5a6b.slice/cri-containerd-3f1c0d5b.scope\n"
)
STATIC_POD = "12:pids:/kubepods/burstable/pod2d1f6a5e9c3b4f7a8e0d1c2b3a495867/3f1c0d5b\n1:name=systemd:/\n"


class Node:
    """A network namespace with a process in kube-proxy's place, and the fact as it reads that node."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.folder = folder
        self.pid = pid
        self.processes: list[subprocess.Popen[str]] = []
        self.fact = KubeProxy()
        self.groups(UNIT)

    def groups(self, text: str) -> None:
        """The control groups that its processes are in."""
        (self.folder / "cgroup").write_text(text)
        script = KubeProxy.script.replace('"$dir/cgroup"', str(self.folder / "cgroup"))
        self.fact.script = script.replace('"/proc/$pid/cgroup"', str(self.folder / "cgroup"))

    def run(self, name: str, *arguments: str, metrics: str = METRICS, mode: str = "ipvs") -> int:
        (self.folder / "metrics").write_text(metrics)
        (self.folder / "server.py").write_text(SERVER)
        link = self.folder / name
        if not link.exists():
            link.symlink_to(os.path.realpath(sys.executable))
        command = [str(link), str(self.folder / "server.py"), mode, str(self.folder / "metrics"), *arguments]
        process = subprocess.Popen(["nsenter", "-t", str(self.pid), "-n", *command], stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process.pid

    def idle(self, name: str, *arguments: str) -> int:
        """A process that only has a name and arguments."""
        link = self.folder / name
        link.symlink_to(os.path.realpath(sys.executable))
        command = [str(link), "-c", "print('ready', flush=True); import time; time.sleep(600)", *arguments]
        process = subprocess.Popen(["nsenter", "-t", str(self.pid), "-n", *command], stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process.pid

    def tool(self, name: str, script: str) -> None:
        (self.folder / "bin").mkdir(exist_ok=True)
        (self.folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / "bin" / name).chmod(0o755)
        if not self.fact.script.startswith("PATH="):
            self.fact.script = f"PATH={self.folder}/bin:$PATH\n{self.fact.script}"

    def reading(self) -> Reading[Proxy | None]:
        said = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-n", "sh", "-c", self.fact.command()],
            capture_output=True,
            text=True,
            check=True,
        )
        return self.fact.process(said.stdout.splitlines())

    def proxy(self) -> Proxy:
        reading = self.reading()
        assert reading["value"] is not None, reading["detail"]
        return reading["value"]


@pytest.fixture
def node(tmp_path: Path, namespace: Callable[[str], int]) -> Iterator[Node]:
    node = Node(tmp_path, namespace(""))
    yield node
    for process in node.processes:
        process.kill()
        process.communicate()


def test_a_systemd_unit_that_is_healthy(node: Node, sample: Sample) -> None:
    config = node.folder / "kube-proxy.yaml"
    config.write_text("\n".join(sample("kube-proxy-config.txt")) + "\nipvs:\n  syncPeriod: 1m30s\n  strictARP: true\n")
    clock, *metrics = sample("kube-proxy-metrics_sync_ok.txt")
    pid = node.run("kube-proxy", f"--config={config}", "--v=2", metrics=METRICS + "\n".join(metrics) + "\n")
    proxy = node.proxy()
    sync = proxy.pop("sync")  # type: ignore[misc]
    argv = proxy.pop("argv")  # type: ignore[misc]
    assert argv[-2:] == [f"--config={config}", "--v=2"]
    assert proxy == {
        "form": "systemd",
        "unit": "kube-proxy.service",
        "pid": pid,
        "mode": "ipvs",
        "answers": True,
        "health": 200,
        "config": {
            "path": str(config),
            "mode": "ipvs",
            "sync_period": 90.0,
            "min_sync_period": 0.0,
            "scheduler": "",
            "strict_arp": True,
            "error": "",
        },
        "version": "v1.20.2",
        "pod": None,
        "kubelet": 0,
        "cilium": None,
    }
    assert sync is not None
    assert (sync["last"], sync["last_queued"], sync["restore_failures"]) == (1795302648.4399934, 1795302646.0933123, 0)
    assert float(clock) < sync["clock"]


def test_syncing_fails_while_healthz_is_200(node: Node, sample: Sample) -> None:
    node.run("kube-proxy", metrics="\n".join(sample("kube-proxy-metrics_sync_failing.txt")[1:-1]) + "\n")
    proxy = node.proxy()
    assert proxy["health"] == 200
    assert proxy["sync"] is not None
    assert (proxy["sync"]["last"], proxy["sync"]["last_queued"]) == (0.0, 1795302575.1947277)


def test_a_newer_one_has_metrics_for_each_family(node: Node) -> None:
    prefix = "kubeproxy_sync_proxy_rules"
    metrics = "".join(
        f'{prefix}_last_timestamp_seconds{{ip_family="{family}"}} {value}\n'
        f'{prefix}_iptables_restore_failures_total{{ip_family="{family}"}} 2\n'
        for family, value in (("IPv4", "1.79530264e+09"), ("IPv6", "1.79530200e+09"))
    )
    node.run("kube-proxy", metrics=metrics)
    sync = node.proxy()["sync"]
    assert sync is not None
    assert (sync["last"], sync["restore_failures"]) == (1795302000.0, 4)


def test_what_it_says_counts_more_than_what_it_was_told(node: Node) -> None:
    node.run("kube-proxy", "--proxy-mode=ipvs", "--ipvs-sync-period=500ms", mode="iptables")
    proxy = node.proxy()
    assert (proxy["mode"], proxy["config"]["mode"], proxy["config"]["sync_period"]) == ("iptables", "ipvs", 0.5)


def test_without_curl_bash_asks(node: Node) -> None:
    node.run("kube-proxy")
    node.fact.script = node.fact.script.replace("command -v curl", "command -v no-such-curl")
    proxy = node.proxy()
    assert (proxy["mode"], proxy["health"], proxy["version"], proxy["answers"]) == ("ipvs", 200, "v1.20.2", True)


@pytest.mark.parametrize("tool", ["curl", "bash"])
def test_bound_to_an_ipv6_address_its_metrics_are_at_its_loopback(
    node: Node, tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADDRESSES", "::1 ::")
    node.run("kube-proxy", "--bind-address=::")
    if tool == "bash":
        node.fact.script = node.fact.script.replace("command -v curl", "command -v no-such-curl")
    proxy = node.proxy()
    assert (proxy["mode"], proxy["health"], proxy["version"], proxy["answers"]) == ("ipvs", 200, "v1.20.2", True)


def test_another_address_that_was_configured_is_the_only_one(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADDRESSES", "::1 ::")
    node.run("kube-proxy", "--metrics-bind-address=127.0.0.2:10249")
    assert not node.proxy()["answers"]


def test_without_either_it_is_not_known(node: Node) -> None:
    node.run("kube-proxy", "--proxy-mode", "ipvs")
    script = node.fact.script.replace("command -v curl", "command -v no-such-curl")
    node.fact.script = script.replace("command -v bash", "command -v no-such-bash")
    reading = node.reading()
    proxy = reading["value"]
    assert proxy is not None
    assert (proxy["mode"], proxy["health"], proxy["sync"], proxy["answers"]) == ("ipvs", 0, None, False)
    assert "neither curl nor bash" in reading["detail"]


def test_one_that_does_not_answer(node: Node) -> None:
    node.idle("kube-proxy", "--config=/etc/no-such-file.yaml")
    proxy = node.proxy()
    assert (proxy["form"], proxy["mode"], proxy["answers"], proxy["health"]) == ("systemd", "", False, 0)
    assert proxy["config"]["path"] == "/etc/no-such-file.yaml"
    assert proxy["config"]["error"] == "the file cannot be read"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("mode: [", "line 1, column 8"),
        ("ipvs: 3\nmode: ipvs", "int"),
        ("mode: ipvs\nipvs:\n  syncPeriod: soon", "no duration: 'soon'"),
    ],
)
def test_a_configuration_that_is_not_understood(node: Node, content: str, error: str) -> None:
    (node.folder / "bad.yaml").write_text(content)
    node.idle("kube-proxy", f"--config={node.folder}/bad.yaml")
    assert error in node.proxy()["config"]["error"]


@pytest.mark.parametrize(
    ("groups", "form", "unit"),
    [
        (UNIT, "systemd", "kube-proxy.service"),
        ("1:name=systemd:/system.slice/kube-proxy.service\n0::/\n", "systemd", "kube-proxy.service"),
        (API_POD, "DaemonSet", ""),
        (STATIC_POD, "static pod", ""),
        ("0::/user.slice/user-0.slice/session-3.scope\n", "process", ""),
    ],
)
def test_the_form_by_its_control_group(node: Node, groups: str, form: str, unit: str) -> None:
    node.groups(groups)
    node.idle("kube-proxy")
    proxy = node.proxy()
    assert (proxy["form"], proxy["unit"]) == (form, unit)


@pytest.mark.parametrize(
    ("name", "groups", "form"),
    [
        ("k3s-server", "0::/system.slice/k3s.service\n", "k3s"),
        ("k3s-agent", "0::/system.slice/k3s-agent.service\n", "k3s-agent"),
        ("kubelite", "0::/system.slice/snap.microk8s.daemon-kubelite.service\n", "microk8s"),
        ("k3s-server", "0::/\n", "k3s"),
    ],
)
def test_distributions(node: Node, name: str, groups: str, form: str) -> None:
    node.groups(groups)
    node.run(name)
    proxy = node.proxy()
    assert (proxy["form"], proxy["mode"]) == (form, "ipvs")


def test_its_pod_and_image(node: Node, sample: Sample) -> None:
    node.groups(API_POD)
    answer = "\n".join(sample("crictl-ps.txt"))
    image = "registry.example/kube-proxy:v1.29.4"
    node.tool("crictl", f'[ "$1" = inspect ] && exec echo {image}\ncat <<"EOF"\n{answer}\nEOF')
    node.run("kube-proxy")
    assert node.proxy()["pod"] == {
        "name": "kube-proxy-x7k2p",
        "namespace": "kube-system",
        "uid": "7a5e1c0b-2f4d-4d7e-9b1a-0c2d3e4f5a6b",
        "sandbox": "b53a6c2d6e4f0c33f0aa6a5bdfa5d0e9b7f3b8ce5a0f6f4a3d6f1c9fd0e2a7c8",
        "container": "3f1c0d5be0a6c1d26c22d2a3a1b6f9d9a77f1d0c0ff95f1e74bd6a0d8a0e4b11",
        "image": image,
    }


@pytest.mark.parametrize("script", ["exit 1", "echo '{}'", "echo '{\"containers\": []}'"])
def test_a_container_runtime_that_does_not_tell(node: Node, script: str) -> None:
    node.groups(API_POD)
    node.tool("crictl", script)
    node.run("kube-proxy")
    proxy = node.proxy()
    assert (proxy["form"], proxy["pod"]) == ("DaemonSet", None)


def test_a_unit_that_does_not_run(node: Node) -> None:
    config = node.folder / "kube-proxy.yaml"
    config.write_text("mode: ipvs\n")
    # The echo of sh would end at the backslash and its c.
    argv = rf"/usr/bin/kube-proxy --hostname-override=k8s\cluster --config={config} --v=2"
    started = f"{{ path=/usr/bin/kube-proxy ; argv[]={argv} ; ignore_errors=no ; }}"
    node.tool(
        "systemctl",
        f"""case "$*" in
            "show kube-proxy.service -p LoadState --value") echo loaded ;;
            "show kube-proxy.service -p ExecStart --value") printf "%s\\n" '{started}' ;;
        esac""",
    )
    (node.folder / "kube-proxy.service").touch()
    node.fact.script = node.fact.script.replace("/run/systemd/transient", str(node.folder))
    proxy = node.proxy()
    assert (proxy["form"], proxy["unit"], proxy["pid"]) == ("systemd", "kube-proxy.service", 0)
    assert proxy["argv"] == argv.split()
    assert (proxy["mode"], proxy["config"]["path"]) == ("ipvs", str(config))


def test_neighbours(node: Node) -> None:
    kubelet = node.idle("kubelet")
    cilium = node.idle("cilium-agent", "--kube-proxy-replacement=true")
    proxy = node.proxy()
    assert (proxy["form"], proxy["pid"], proxy["kubelet"]) == ("none", 0, kubelet)
    assert proxy["cilium"] == {"pid": cilium, "replacement": "true"}


def test_a_node_without_any_of_them_is_empty(node: Node) -> None:
    node.tool("systemctl", "echo not-found")
    assert node.reading()["state"] == "empty"


def test_processes_of_other_namespaces_are_not_the_nodes(node: Node, namespace: Callable[[str], int]) -> None:
    node.tool("systemctl", "echo not-found")
    node.run("kube-proxy")
    node.pid = namespace("")
    assert node.reading()["state"] == "empty"


def test_only_root_may_read() -> None:
    fact = KubeProxy()
    said = subprocess.run(["sh", "-c", fact.command()], capture_output=True, text=True, user=65534, cwd="/")
    assert fact.process(said.stdout.splitlines())["state"] == "not permitted"


def test_a_flag_that_is_not_understood() -> None:
    argv = base64.b64encode(b"kube-proxy\0--proxy-mode=ipvs\0--ipvs-sync-period=soon\0").decode()
    proxy = KubeProxy().read([f"process 7 kube-proxy {argv}"])
    assert proxy is not None
    assert (proxy["mode"], proxy["config"]["error"]) == ("ipvs", "no duration: 'soon'")


@pytest.mark.lab
def test_a_crictl_that_sudo_does_not_find(healed: Lab, reached: Host, sample: Sample) -> None:
    """Kubespray's is in /usr/local/bin, which Red Hat's sudoers file leaves out."""
    lab_node = healed.node("node-0")
    lab_node.write("/etc/sudoers.d/rocky", "Defaults secure_path = /sbin:/bin:/usr/sbin:/usr/bin\n", 0o440)
    answer = "\n".join(sample("crictl-ps.txt"))
    lab_node.write("/usr/local/bin/crictl", f"#!/bin/sh\ncat <<'EOF'\n{answer}\nEOF\n", 0o755)
    lab_node.write("/opt/kube-proxy", "#!/bin/sh\nsleep 300 &\nwait\n", 0o755)
    group = "kubepods-besteffort-pod7a5e1c0b_2f4d_4d7e_9b1a_0c2d3e4f5a6b.slice"
    lab_node.run(["systemd-run", "--quiet", "--unit=test-kube-proxy", f"--slice={group}", "/opt/kube-proxy"])
    try:
        snapshot.forget(reached)
        read = snapshot.of(reached)
        alone = reached.get_fact(KubeProxy)
    finally:
        lab_node.run(["systemctl", "stop", "test-kube-proxy"])
    assert read is not None
    for proxy in (read["kube_proxy"]["value"], alone["value"]):
        assert proxy is not None and proxy["form"] == "DaemonSet"
        assert proxy["pod"] is not None and proxy["pod"]["name"] == "kube-proxy-x7k2p"
        assert "crictl stopp b53a6c2d" in kube_proxy.restart_command(proxy)

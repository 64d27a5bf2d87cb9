"""Every check is seen to fire on a real node with the fault, and to pass on a healthy one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pyinfra.api.host import Host

from checks import dnsmasq_001
from checks.case import Case
from checks.catalogue import CHECKS, judge
from checks.finding import Finding, Status
from facts import snapshot
from lab.api import Lab
from lab.faults import dnsmasq_files
from lab.places import Node
from models import node
from operations import dnsmasq
from probes.fleet import answers
from probes.probe import Result
from probes.questions import Asking, icmp_questions, questions
from tests.conftest import Run
from tests.deploys.nodes import dnsmasq_start

pytestmark = pytest.mark.lab

OWN = "version.bind"
_DROP_IN = "/etc/systemd/system/dnsmasq.service.d/50-test.conf"

HOW = Asking(name="google.com", service_name="kubernetes.default.svc.cluster.local", tries=5, deadline_s=1.0, pods=2)

Judged = Callable[[], dict[tuple[str, str], Finding]]


@pytest.fixture
def judged(healed: Lab, reached_all: list[Host]) -> Judged:
    """Reads, asks and judges the whole lab; the worst finding per node and check."""

    def run() -> dict[tuple[str, str], Finding]:
        for host in reached_all:
            snapshot.forget(host)
        fleet = snapshot.fleet(reached_all)
        vips = node.vips(fleet, None)
        asking = {
            host: [
                *questions(read, vips[host.name], [], HOW),
                *icmp_questions(read, vips[host.name], HOW),
            ]
            for host in reached_all
            if (read := fleet[host.name])
        }
        results: dict[str, list[Result]] = answers(asking)
        order = [Status.SKIP, Status.PASS, Status.WARN, Status.UNKNOWN, Status.FAIL]
        found: dict[tuple[str, str], Finding] = {}
        for name in fleet:
            for finding in judge(Case(name, fleet, vips[name], results[name])):
                key = (name, finding["check"])
                if key not in found or order.index(found[key]["status"]) < order.index(finding["status"]):
                    found[key] = finding
        return found

    return run


def test_a_healthy_fleet_passes_every_check(judged: Judged) -> None:
    found = judged()
    assert len(found) == 3 * len(CHECKS)
    for (_, check), finding in found.items():
        assert finding["status"] in expected(check), finding


def expected(check: str) -> tuple[Status, ...]:
    """These nodes are no cluster: what is about kube-proxy does not apply."""
    return (Status.PASS,) if check.startswith("DNSMASQ") else (Status.PASS, Status.SKIP)


def others_pass(found: dict[tuple[str, str], Finding], *named: str) -> bool:
    return all(
        finding["status"] in expected(check)
        for (name, check), finding in found.items()
        if name != "node-0" or check not in named
    )


@pytest.mark.parametrize(
    ("fault", "mode", "culprit"),
    [
        ("dnsmasq-except-cilium", "bind-dynamic", "except-interface=cilium_* (/etc/dnsmasq.d/k8s.conf:14)"),
        ("dnsmasq-except-cilium", "wildcard", "except-interface=cilium_* (/etc/dnsmasq.d/k8s.conf:14)"),
        ("dnsmasq-except-cilium-cmdline", "bind-dynamic", "except-interface=cilium_* (the command line)"),
        ("dnsmasq-local-service", "bind-interfaces", "local-service (the command line)"),
        ("dnsmasq-local-service-host", "bind-interfaces", "local-service=host (the command line)"),
        ("dnsmasq-interface-bond0", "bind-dynamic", "only bond0 is allowed by interface=bond0"),
        ("dnsmasq-listen-vip", "bind-dynamic", "only 172.25.4.1 is allowed by listen-address=172.25.4.1"),
        ("endpoint-routes", None, "is not listed"),
    ],
)
def test_001_names_the_option(judged: Judged, healed: Lab, fault: str, mode: str | None, culprit: str) -> None:
    healed.inject(fault, "node-0", mode=mode)
    found = judged()
    finding = found["node-0", "DNSMASQ-001"]
    assert finding["status"] == Status.FAIL
    assert culprit in finding["sentence"]
    assert finding["operation"] == "dnsmasq.interface_policy"
    assert any("0/5" in line for line in finding["evidence"])
    assert any("ICMP: answered 3/3" in line for line in finding["evidence"])
    assert not any("drops packets as well" in line for line in finding["evidence"])
    assert others_pass(found, "DNSMASQ-001")


#: As cri-dockerd has it where docker's cgroup driver is systemd.
_AS_DOCKERS = """\
pods=kubepods.slice/kubepods-besteffort.slice
cd /sys/fs/cgroup/systemd/$pods 2>/dev/null || cd /sys/fs/cgroup/$pods
for pod in pod-client.service pod-coredns.service; do
    mkdir -p $pod/docker-3f1c0d5b9c3b.scope
    for process in $(cat $pod/cgroup.procs); do echo $process >$pod/docker-3f1c0d5b9c3b.scope/cgroup.procs; done
done
"""


def test_001_sees_pods_that_docker_runs_for_the_kubelet(judged: Judged, healed: Lab) -> None:
    lab_node = healed.node("node-0")
    lab_node.run(["sh", "-ec", _AS_DOCKERS])
    try:
        healed.inject("dnsmasq-except-cilium", "node-0", mode="bind-dynamic")
        finding = judged()["node-0", "DNSMASQ-001"]
    finally:
        lab_node.run(["systemctl", "restart", "pod-client.service", "pod-coredns.service"])
    assert finding["status"] == Status.FAIL
    assert finding["sentence"].startswith("pod 172.26.2.") and finding["operation"] == "dnsmasq.interface_policy"


#: libvirt's default network: its dnsmasq is of libvirtd's unit, and systemd-resolved asks it for the machines' names.
_LIBVIRT = """\
ip link add virbr0 type bridge
ip address add 192.168.122.1/24 dev virbr0
ip link set virbr0 up
printf '%s\\n' except-interface=lo bind-dynamic interface=virbr0 no-resolv >/run/default.conf
systemd-run --quiet --unit=libvirtd /usr/sbin/dnsmasq --keep-in-foreground --conf-file=/run/default.conf --pid-file
until ss -Hltn 'sport = :53' | grep -q 192.168.122.1; do sleep 0.1; done
resolvectl dns virbr0 192.168.122.1
resolvectl domain virbr0 '~vm.lan'
"""


def test_what_libvirt_serves_is_none_of_the_clusters(judged: Judged, reached_all: list[Host], healed: Lab) -> None:
    lab_node = healed.node("node-0")
    try:
        lab_node.run(["timeout", "20", "sh", "-ec", _LIBVIRT])
        found = judged()
        fleet = snapshot.fleet(reached_all)
    finally:
        lab_node.run(["systemctl", "stop", "libvirtd"], check=False)
        lab_node.run(["ip", "link", "delete", "virbr0"], check=False)
    read = fleet["node-0"]
    assert read and (resolved := read["resolved"]["value"]) and "192.168.122.1" in str(resolved["links"])
    assert {one["unit"] for one in read["dnsmasq"]["value"]["instances"]} == {"dnsmasq.service", "libvirtd.service"}
    assert node.vips(fleet, None)["node-0"] == ("172.25.4.1",)
    assert found["node-0", "DNSMASQ-001"]["status"] == found["node-0", "DNSMASQ-003"]["status"] == Status.PASS
    assert not dnsmasq.changes("node-0", fleet, policy="except-lo", served=["172.25.4.1"])


def test_001_says_where_something_else_is_at_work_too(judged: Judged, healed: Lab) -> None:
    healed.inject("dnsmasq-cannot-verify", "node-0")
    finding = judged()["node-0", "DNSMASQ-001"]
    assert finding["status"] == Status.FAIL
    assert any("something before it drops packets as well" in line for line in finding["evidence"])


def test_001_takes_what_was_not_lost_again_for_a_busy_moment(reached_all: list[Host], healed: Lab) -> None:
    fleet = snapshot.fleet(reached_all)
    vips = node.vips(fleet, None)
    (host,) = (each for each in reached_all if each.name == "node-0")
    results = answers({host: questions(fleet["node-0"] or {}, vips["node-0"], [], HOW)})["node-0"]  # type: ignore[arg-type]
    stray = next(one for one in results if one["probe"]["source"]["name"] != "host" and one["probe"]["name"] == OWN)
    stray["tries"][0]["outcome"] = "timeout"
    for strays, status in (([stray], Status.PASS), ([], Status.FAIL)):
        (finding,) = dnsmasq_001.check(Case("node-0", fleet, vips["node-0"], results, strays=strays))
        assert finding["status"] == status, finding
    assert "not lost again" in dnsmasq_001.check(Case("node-0", fleet, vips["node-0"], results, [stray]))[0]["sentence"]


def test_001_tells_dnsmasq_from_what_is_before_it(judged: Judged, healed: Lab) -> None:
    lab_node = healed.node("node-0")
    rules = "table inet test { chain i { type filter hook input priority 0; iifname cilium_host udp dport 53 drop; }; }"
    lab_node.run(["nft", rules])
    try:
        finding = judged()["node-0", "DNSMASQ-001"]
    finally:
        lab_node.run(["nft", "delete", "table", "inet", "test"])
    assert finding["status"] == Status.FAIL
    assert "though dnsmasq's configuration answers pods" in finding["sentence"]
    assert finding["operation"] == ""


def test_001_and_004_see_a_fault_that_waits_for_the_next_restart(judged: Judged, healed: Lab) -> None:
    lab_node = healed.node("node-0")
    lab_node.run(["sleep", "2.5"])
    lab_node.run(["sh", "-c", "echo 'except-interface=cilium_*' >> /etc/dnsmasq.d/10-interfaces.conf"])
    healed.record.faults.setdefault("node-0", []).append("a line was added by hand")
    found = judged()
    waiting, stale = found["node-0", "DNSMASQ-001"], found["node-0", "DNSMASQ-004"]
    assert waiting["status"] == Status.WARN
    assert "will cut off pod" in waiting["sentence"] and "10-interfaces.conf" in waiting["sentence"]
    assert stale["status"] == Status.WARN
    assert "/etc/dnsmasq.d/10-interfaces.conf" in stale["sentence"]
    assert others_pass(found, "DNSMASQ-001", "DNSMASQ-004")


def test_002_names_file_and_line(judged: Judged, healed: Lab) -> None:
    healed.inject("dnsmasq-unparsable", "node-0")
    found = judged()
    finding = found["node-0", "DNSMASQ-002"]
    assert finding["status"] == Status.FAIL
    assert finding["sentence"].startswith("/etc/dnsmasq.d/30-zones.conf:")
    assert "its next restart would be an outage" in finding["sentence"]
    assert found["node-0", "DNSMASQ-001"]["status"] == Status.UNKNOWN
    assert found["node-0", "DNSMASQ-003"]["status"] == Status.WARN
    assert found["node-0", "RESOLVER-001"]["status"] == Status.UNKNOWN
    assert others_pass(found, "DNSMASQ-001", "DNSMASQ-002", "DNSMASQ-003", "DNSMASQ-004", "RESOLVER-001")


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("dnsmasq-cannot-start-bind-conflict", "cannot set --bind-interfaces and --bind-dynamic"),
        ("dnsmasq-cannot-start-port-taken", "Address already in use by systemd-resolve"),
        ("dnsmasq-cannot-start-unknown-interface", "unknown interface"),
    ],
)
def test_003_says_why_dnsmasq_does_not_start(judged: Judged, healed: Lab, fault: str, why: str) -> None:
    healed.inject(fault, "node-0")
    found = judged()
    finding = found["node-0", "DNSMASQ-003"]
    assert finding["status"] == Status.FAIL
    assert "does not run" in finding["sentence"] and why in finding["sentence"]
    assert found["node-0", "DNSMASQ-001"]["status"] == Status.UNKNOWN
    assert found["node-0", "DNSMASQ-004"]["status"] == Status.SKIP
    assert others_pass(found, "DNSMASQ-001", "DNSMASQ-003", "DNSMASQ-004")


def test_a_stopped_dnsmasq_is_not_overlooked(judged: Judged, healed: Lab) -> None:
    lab_node = healed.node("node-0")
    lab_node.run(["systemctl", "stop", "dnsmasq"])
    try:
        finding = judged()["node-0", "DNSMASQ-003"]
    finally:
        lab_node.run(["systemctl", "start", "dnsmasq"])
    assert finding["status"] == Status.FAIL
    assert "does not run" in finding["sentence"]


_RESOLVER = """\
server:
    interface: 0.0.0.0
    username: ""
    chroot: ""
    directory: /tmp
    pidfile: ""
    access-control: 0.0.0.0/0 allow
"""


def _listens(lab_node: Node, address: str) -> None:
    """Waits for whoever is to listen there."""
    script = 'for turn in $(seq 50); do ss -Hltn | grep -qF " $1:53 " && exit 0; sleep 0.1; done; exit 1'
    lab_node.run(["sh", "-c", script, "sh", address])


def test_only_an_installed_dnsmasq_is_not_blamed_for_what_another_program_serves(judged: Judged, healed: Lab) -> None:
    """Disabled as the RHEL package has it; enabled it wants to run, and the other program keeps it from that."""
    lab_node = healed.node("node-0")
    dnsmasq_files.set_stub(lab_node, on=False)
    lab_node.write("/run/resolver.conf", _RESOLVER)
    lab_node.run(["systemctl", "disable", "--quiet", "--now", "dnsmasq"])
    try:
        lab_node.run(["systemd-run", "--quiet", "--unit=resolver", "unbound", "-d", "-c", "/run/resolver.conf"])
        _listens(lab_node, "0.0.0.0")
        found = judged()
        assert found["node-0", "DNSMASQ-003"]["status"] == Status.SKIP
        assert found["node-0", "DNSMASQ-001"]["status"] == Status.SKIP
        assert lab_node.run(["systemctl", "start", "dnsmasq"], check=False).returncode != 0
        finding = judged()["node-0", "DNSMASQ-003"]
        assert finding["status"] == Status.FAIL
        assert "Address already in use by unbound on 0.0.0.0:53" in finding["sentence"]
    finally:
        lab_node.run(["systemctl", "stop", "resolver"], check=False)
        lab_node.run(["systemctl", "enable", "--quiet", "dnsmasq"])


def test_a_sandboxed_dnsmasq_is_judged_by_the_node_s_files(judged: Judged, healed: Lab) -> None:
    """It has a mount namespace of its own, and the node's root."""
    healed.inject("dnsmasq-except-cilium", "node-0")
    lab_node = healed.node("node-0")
    sandbox = "ProtectSystem=strict\nProtectHome=yes\nPrivateTmp=yes\nPrivateDevices=yes\nReadWritePaths=/run"
    lab_node.write(_DROP_IN, f"[Service]\n{sandbox}\n")
    lab_node.run(["systemctl", "daemon-reload"])
    lab_node.run(["systemctl", "restart", "dnsmasq"])
    pid = lab_node.run(["systemctl", "show", "-p", "MainPID", "--value", "dnsmasq"]).stdout.strip()
    apart = lab_node.run(["readlink", "/proc/1/ns/mnt", f"/proc/{pid}/ns/mnt"]).stdout.split()
    assert len(set(apart)) == 2
    finding = judged()["node-0", "DNSMASQ-001"]
    assert finding["status"] == Status.FAIL
    assert "except-interface=cilium_* (/etc/dnsmasq.d/k8s.conf:14)" in finding["sentence"]


# A container's files: the node's programs, and a configuration of its own.
_OTHER_ROOT = r"""
mkdir -p /run/other && mount -t tmpfs other /run/other
cd /run/other
mkdir -p usr etc run proc var/lib/misc
ln -s ../run var/run
mount --bind /usr usr
for link in bin sbin lib lib64; do [ ! -e /$link ] || cp -a /$link .; done
cp /etc/passwd /etc/group etc/
printf '%s\n' bind-dynamic except-interface=lo | cat - /etc/dnsmasq.d/20-upstreams.conf >etc/dnsmasq.conf
"""
_CONTAINER = """\
[Service]
RootDirectory=/run/other
MountAPIVFS=yes
Type=simple
PIDFile=
ExecStartPre=
ExecStart=
ExecStart=/usr/sbin/dnsmasq -k -C /etc/dnsmasq.conf -u root
ExecStartPost=
ExecStop=
"""


def test_a_dnsmasq_with_a_root_of_its_own_is_not_judged_by_the_node_s_files(
    judged: Judged, healed: Lab, pyinfra: Run
) -> None:
    """As a container with the node's network, in a unit that has dnsmasq's name (Podman's quadlets)."""
    healed.inject("dnsmasq-except-cilium", "node-0")
    lab_node = healed.node("node-0")
    lab_node.run(["sh", "-euc", _OTHER_ROOT])
    lab_node.write(_DROP_IN, _CONTAINER)
    lab_node.run(["systemctl", "daemon-reload"])
    try:
        lab_node.run(["systemctl", "restart", "dnsmasq"])
        _listens(lab_node, "172.25.4.1")
        before, started = lab_node.read("/etc/dnsmasq.d/k8s.conf"), dnsmasq_start(lab_node)
        found = judged()
        for check in ("DNSMASQ-001", "DNSMASQ-002", "DNSMASQ-003", "DNSMASQ-004"):
            assert found["node-0", check]["status"] == Status.SKIP, found["node-0", check]
        assert found["node-0", "DNSMASQ-002"]["sentence"].startswith("dnsmasq.service has a root of its own")
        done = pyinfra("inventory", "deploys/fix_dns.py", "-y", timeout=300)
        assert done.returncode == 0, done.stderr
        assert (lab_node.read("/etc/dnsmasq.d/k8s.conf"), dnsmasq_start(lab_node)) == (before, started)
        done = pyinfra("-y", "inventory", "deploys/diagnose.py")
        assert done.returncode == 0, done.stderr
    finally:
        lab_node.remove(_DROP_IN)
        lab_node.run(["systemctl", "stop", "dnsmasq"])
        lab_node.run(["sh", "-c", "umount -R /run/other && rmdir /run/other"])


#: As a network plugin's policy does it: on the pod's own link, so that nobody is told.
_POLICY = """\
table netdev netpol {
	chain egress {
		type filter hook egress device "eth0" priority 0; policy accept;
		ip daddr 172.25.4.0/24 drop
	}
}
"""


def test_a_pod_that_a_network_policy_keeps_from_dnsmasq(judged: Judged, healed: Lab, pyinfra: Run) -> None:
    """It stands in for one that asks there: neither a fault of dnsmasq's, nor a reason to take its repair back."""
    pod = healed.node("node-0").pod("client")
    healed.inject("dnsmasq-except-cilium", "node-0")
    pod.run(["nft", "-f", "-"], stdin=_POLICY)
    try:
        assert judged()["node-0", "DNSMASQ-001"]["status"] == Status.FAIL
        done = pyinfra("inventory", "deploys/fix_dns.py", "-y", timeout=300)
        assert done.returncode == 0 and "a NetworkPolicy, as it seems" in done.stderr, done.stderr
        finding = judged()["node-0", "DNSMASQ-001"]
        assert finding["status"] == Status.PASS
        assert "pod 172.26.2.145: all lost, unlike others" in finding["sentence"]
        assert pyinfra("-y", "inventory", "deploys/diagnose.py").returncode == 0
    finally:
        pod.run(["nft", "delete", "table", "netdev", "netpol"])

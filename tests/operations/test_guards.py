"""Guards on a real node: installed once, seen to fire, quiet when all is well, and gone without a trace."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.faults.case import Stage
from bench.faults.conditions_disk import full
from lab.api import Lab
from lab.faults import stand_ins
from lab.places import Node
from tests.conftest import Run
from tests.deploys.nodes import state
from tests.operations.rules import clear, files
from tests.operations.test_guard_metrics import promtool

pytestmark = pytest.mark.lab

METRICS = "/var/lib/node_exporter/textfile_collector"
Metrics = dict[str, float]


def prevent(pyinfra: Run, *arguments: str, how: str = "-y") -> subprocess.CompletedProcess[str]:
    return pyinfra(how, "--limit", "node-0", "inventory", "deploys/prevent.py", *arguments)


@pytest.fixture
def guarded(healed: Lab, pyinfra: Run) -> Node:
    """node-0 with its guards, whose timers and path unit are stopped: the tests start them."""
    done = prevent(pyinfra)
    assert done.returncode == 0, done.stderr
    node = healed.node("node-0")
    node.run(["systemctl", "stop", "dnsmend-probe.timer", "dnsmend-backend.timer", "dnsmend-backend.path"])
    return node


@pytest.fixture
def bare(healed: Lab) -> Iterator[Node]:
    """node-0 without rules, also afterwards."""
    node = healed.node("node-0")
    clear(node)
    yield node
    clear(node)


def metrics(node: Node, which: str = "probe") -> Metrics:
    lines = node.read(f"{METRICS}/dnsmend_{which}.prom").splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def success(node: Node) -> dict[str, bool]:
    """What was answered: "vip 172.25.4.1 udp"."""
    name = re.compile(r'dnsmend_guard_success\{stage="(.*)",target="(.*)",protocol="(.*)"\}')
    return {" ".join(match.groups()): value == 1 for key, value in metrics(node).items() if (match := name.match(key))}


def run(node: Node, unit: str = "dnsmend-probe") -> list[str]:
    """Start the guard's unit; what it said in the journal, with priority err."""
    since = node.run(["date", "+%s.%6N"]).stdout.strip()
    node.run(["systemctl", "start", unit], check=False)
    return errors(node, unit, since)


def errors(node: Node, unit: str, since: str) -> list[str]:
    node.run(["journalctl", "--sync"])
    said = node.run(["journalctl", "-u", unit, "-p", "err", "-o", "cat", "--no-pager", f"--since=@{since}"]).stdout
    return [line for line in said.splitlines() if line.startswith("dnsmend: ")]


def test_installed_once_and_removed_without_a_trace(healed: Lab, pyinfra: Run) -> None:
    node = healed.node("node-0")
    before, untouched = state(node), kept(node)

    dry = prevent(pyinfra, how="--dry")
    assert dry.returncode == 0, dry.stderr
    assert "+ /etc/systemd/system/dnsmend-probe.service" in dry.stderr
    assert state(node) == before

    first = prevent(pyinfra)
    assert first.returncode == 0, first.stderr
    enabled = node.run(["systemctl", "list-unit-files", "--state=enabled", "dnsmend-*", "--no-legend"]).stdout
    assert re.findall(r"^(\S+)", enabled, re.M) == [
        "dnsmend-backend.path",
        "dnsmend-boot.service",
        "dnsmend-backend.timer",
        "dnsmend-probe.timer",
    ]
    verified = node.run(["sh", "-c", "systemd-analyze verify /etc/systemd/system/dnsmend-* 2>&1"]).stdout
    assert "dnsmend" not in verified

    second = prevent(pyinfra)
    assert second.returncode == 0 and "Success" not in second.stderr.split("--> Results:")[0], second.stderr

    node.run(["sh", "-c", "echo '# mine' >> /usr/local/lib/dnsmend/table"])
    for arguments in ([], ["--data", "remove=true"]):
        refused = prevent(pyinfra, *arguments)
        assert refused.returncode == 1
        assert "node-0: edited since dnsmend installed it: /usr/local/lib/dnsmend/table" in refused.stderr
    node.run(["sed", "-i", "$d", "/usr/local/lib/dnsmend/table"])

    removed = prevent(pyinfra, "--data", "remove=true")
    assert removed.returncode == 0, removed.stderr
    assert kept(node) == untouched
    assert "dnsmend" not in node.run(["systemctl", "list-units", "--all", "--no-legend", "--plain"]).stdout
    again = prevent(pyinfra, "--data", "remove=true")
    assert again.returncode == 0 and "Success" not in again.stderr.split("--> Results:")[0], again.stderr


def kept(node: Node) -> list[str]:
    """The node's files, without the runs' own record and the times of folders."""
    return [re.sub(r"^(\S+ d .*) \d+\.\d+ $", r"\1", each) for each in files(node) if "/var/lib/dnsmend" not in each]


def test_a_file_of_somebody_elses_is_left_alone(healed: Lab, pyinfra: Run) -> None:
    node = healed.node("node-0")
    node.write("/etc/systemd/system/dnsmend-probe.timer", "# mine\n")
    done = prevent(pyinfra)
    assert done.returncode == 1
    assert "dnsmend-probe.timer is there already, and dnsmend did not install it" in done.stderr
    assert node.read("/etc/systemd/system/dnsmend-probe.timer") == "# mine\n"
    assert node.run(["test", "-e", "/usr/local/lib/dnsmend"], check=False).returncode == 1


def test_taken_back_by_its_run(guarded: Node, pyinfra: Run) -> None:
    (run_id,) = node_runs(guarded)
    assert prevent(pyinfra, "--data", "remove=true").returncode == 0
    (removal,) = set(node_runs(guarded)) - {run_id}
    for taken_back, there in ((removal, 0), (run_id, 1)):
        done = pyinfra("-y", "--limit", "node-0", "inventory", "deploys/undo.py", "--data", f"run={taken_back}")
        assert done.returncode == 0, done.stderr
        assert guarded.run(["test", "-e", "/usr/local/lib/dnsmend/probe"], check=False).returncode == there
        assert guarded.active("dnsmend-probe.timer") is not bool(there)


def test_a_full_disk_keeps_no_half_written_file(bare: Node, healed: Lab, pyinfra: Run, tmp_path: Path) -> None:
    with full(Stage(healed, (), tmp_path), ["/etc/systemd/system"], "bytes", None):
        done = prevent(pyinfra)
    assert done.returncode == 1 and "No space left on device" in done.stderr
    assert bare.run(["find", "/etc", "/usr/local", "-name", "*dnsmend*", "-type", "f"]).stdout == ""


def node_runs(node: Node) -> list[str]:
    return node.run(["ls", "/var/lib/dnsmend"]).stdout.split()


#: Of what comes in: what is dropped on its way out is told to the sender at once.
DROP = "add table ip test; add chain ip test in {{ type filter hook input priority 0; }}; add rule ip test in {}"
UPSTREAM = "192.18.0.2"
FAULTS = {
    "dnsmasq stopped": (
        ["systemctl", "stop", "dnsmasq"],
        ["systemctl", "start", "dnsmasq"],
        ["vip 172.25.4.1 udp", "vip 172.25.4.1 tcp", "pod 172.25.4.1 udp", "pod 172.25.4.1 tcp"],
        r"vip 172.25.4.1 over udp, from the node, version.bind TXT: 3 of 3 lost: error .*refused.*\(3\)",
    ),
    "UDP dropped": (
        ["nft", DROP.format("ip daddr 172.25.4.1 udp dport 53 drop")],
        ["nft", "delete table ip test"],
        ["vip 172.25.4.1 udp", "pod 172.25.4.1 udp"],
        r"vip 172.25.4.1 over udp, from the node, version.bind TXT: 3 of 3 lost: timeout \(3\)",
    ),
    "a dead upstream": (
        ["nft", DROP.format(f"ip saddr {UPSTREAM} drop")],
        ["nft", "delete table ip test"],
        [f"upstream {UPSTREAM} udp", f"upstream {UPSTREAM} tcp"],
        rf"upstream {UPSTREAM} over tcp, from the node, \S+ A: 3 of 3 lost: timeout.*\(3\)",
    ),
}


def test_each_fault_is_seen_and_its_end_too(guarded: Node) -> None:
    assert run(guarded) == []
    healthy = success(guarded)
    assert set(healthy.values()) == {True}
    assert {name.split()[0] for name in healthy} == {"vip", "pod", "upstream"}
    for name, (fault, repair, lost, line) in FAULTS.items():
        counted = metrics(guarded)
        guarded.run(fault)
        said = run(guarded)
        seen = [each for each, answered in success(guarded).items() if not answered]
        guarded.run(repair)
        assert sorted(seen) == sorted(lost), name
        assert len(said) == len(lost) and any(re.search(line, each) for each in said), (name, said)
        stage, target, protocol = lost[0].split()
        labels = f'{{stage="{stage}",target="{target}",protocol="{protocol}"}}'
        after = metrics(guarded)
        for counter in ("dnsmend_guard_queries_total", "dnsmend_guard_lost_total"):
            assert after[counter + labels] == counted[counter + labels] + 3
        assert "dnsmend_guard_duration_seconds" + labels not in after
        assert run(guarded) == []
        assert success(guarded) == healthy
        assert (
            f"{lost[0].rpartition(' ')[0]} over {protocol}"
            in guarded.run(
                ["journalctl", "-u", "dnsmend-probe", "-n", "10", "-o", "cat", "--grep", "answered again"]
            ).stdout
        )


def test_what_only_pods_lose_is_seen(guarded: Node, healed: Lab) -> None:
    healed.inject("dnsmasq-except-cilium", "node-0", mode="wildcard")
    said = run(guarded)
    assert {name.rpartition(" ")[0] for name, answered in success(guarded).items() if not answered} == {
        "pod 172.25.4.1"
    }
    assert any("pod 172.25.4.1 over udp, from a DNS pod, version.bind TXT: 3 of 3 lost: timeout (3)" in s for s in said)


SERVICE, CLOSED = "10.32.0.10", "172.26.2.99"
CHAINS = f"""*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-TCOU7JCQXEZGVUNU - [0:0]
:KUBE-SEP-DNSMENDDNSMEND77 - [0:0]
-A OUTPUT -j KUBE-SERVICES
-A KUBE-SERVICES -d {SERVICE}/32 -p udp -m udp --dport 53 -j KUBE-SVC-TCOU7JCQXEZGVUNU
-A KUBE-SERVICES -d {SERVICE}/32 -p tcp -m tcp --dport 53 -j KUBE-SVC-TCOU7JCQXEZGVUNU
-A KUBE-SVC-TCOU7JCQXEZGVUNU -j KUBE-SEP-DNSMENDDNSMEND77
-A KUBE-SEP-DNSMENDDNSMEND77 -p udp -m udp -j DNAT --to-destination TARGET:53
-A KUBE-SEP-DNSMENDDNSMEND77 -p tcp -m tcp -j DNAT --to-destination TARGET:53
COMMIT
"""


@pytest.fixture
def kube_proxy(bare: Node) -> Iterator[Node]:
    """node-0 with a stand-in for kube-proxy, and rules as that writes for a DNS service with one pod."""
    lead(bare, bare.plan.pod("coredns").address)
    stand_ins.kube_proxy(bare)
    yield bare
    stand_ins.no_kube_proxy(bare)


def lead(node: Node, target: str) -> None:
    """Let the service's address lead to this pod."""
    node.run(["iptables-nft-restore"], stdin=CHAINS.replace("TARGET", target))


def test_the_service_is_asked_on_a_node_with_kube_proxy(kube_proxy: Node, pyinfra: Run) -> None:
    done = prevent(pyinfra)
    assert done.returncode == 0, done.stderr
    kube_proxy.run(["systemctl", "stop", "dnsmend-probe.timer"])
    assert run(kube_proxy) == []
    asked = {name: answered for name, answered in success(kube_proxy).items() if name.startswith("service")}
    assert asked == {f"service {SERVICE} udp": True, f"service {SERVICE} tcp": True}
    # A real server that is gone, where the node's own dnsmasq is well.
    lead(kube_proxy, CLOSED)
    said = run(kube_proxy)
    lost = [name for name, answered in success(kube_proxy).items() if not answered]
    assert sorted(lost) == [f"service {SERVICE} tcp", f"service {SERVICE} udp"]
    about = f"service {SERVICE} over udp, from the node, kubernetes.default.svc.cluster.local A"
    assert f"dnsmend: {about}: 3 of 3 lost: timeout (3)" in said
    lead(kube_proxy, kube_proxy.plan.pod("coredns").address)
    assert run(kube_proxy) == [] and set(success(kube_proxy).values()) == {True}


def within(seconds: float, seen: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if seen():
            return True
        time.sleep(0.2)
    return seen()


def hide(node: Node, *tools: str) -> None:
    """Let the guard find no such tool: a PATH of links to all the others."""
    script = 'mkdir /run/tools && ln -s /usr/bin/* /run/tools/ && cd /run/tools && rm -f "$@"'
    node.run(["sh", "-c", script, "-", *tools])
    node.write("/run/systemd/system/dnsmend-probe.service.d/path.conf", "[Service]\nEnvironment=PATH=/run/tools\n")
    node.run(["systemctl", "daemon-reload"])


@pytest.fixture
def hiding(guarded: Node) -> Iterator[Node]:
    yield guarded
    guarded.run(["rm", "-r", "/run/tools", "/run/systemd/system/dnsmend-probe.service.d"])


@pytest.mark.parametrize(("tools", "carrier"), [(["python3"], "bash"), (["python3", "bash"], "dig")])
def test_other_carriers(hiding: Node, tools: list[str], carrier: str) -> None:
    hide(hiding, *tools)
    asked = ["env", "PATH=/run/tools", "sh", "/usr/local/lib/dnsmend/questions"]
    assert f"carrier 0 {carrier}" in hiding.run(asked).stdout
    assert run(hiding) == []
    assert set(success(hiding).values()) == {True}
    hiding.run(["systemctl", "stop", "dnsmasq"])
    assert len(run(hiding)) == 4
    assert success(hiding)["vip 172.25.4.1 tcp"] is False


def test_a_guard_that_cannot_ask_fails_and_says_nothing_of_success(hiding: Node) -> None:
    before = metrics(hiding)
    hide(hiding, "python3", "bash", "dig")
    said = run(hiding)
    assert said == ["dnsmend: nothing could be asked: neither python3 nor bash nor dig is here"]
    assert hiding.run(["systemctl", "is-failed", "dnsmend-probe"], check=False).stdout.strip() == "failed"
    after = metrics(hiding)
    assert success(hiding) == {}
    told = ("dnsmend_guard_success{", "dnsmend_guard_duration_seconds{")
    assert after == {name: value for name, value in before.items() if not name.startswith(told)}


def test_guards_that_do_not_work_on_a_node_are_taken_back(healed: Lab, pyinfra: Run) -> None:
    node = healed.node("node-0")
    untouched = kept(node)
    hide(node, "python3", "bash", "dig")
    try:
        done = prevent(pyinfra)
    finally:
        node.run(["rm", "-r", "/run/tools", "/run/systemd/system/dnsmend-probe.service.d"])
    assert done.returncode == 1
    assert (
        "dnsmend-probe.service does not work here: dnsmend: nothing could be asked: neither python3" in done.stderr
    ), done.stderr
    assert kept(node) == untouched
    assert not node.active("dnsmend-backend.timer")


def backend(node: Node) -> tuple[float, float, float, float]:
    """consistent, flipped, stale chains, unknown."""
    found = metrics(node, "backend")
    names = ("consistent", "flipped", "stale_chains", "unknown")
    return tuple(found[f"dnsmend_guard_backend_{name}"] for name in names)  # type: ignore[return-value]


def test_an_alternative_that_flips_is_noticed_at_once(bare: Node, pyinfra: Run) -> None:
    for name in ("iptables", "ip6tables"):
        bare.run(["update-alternatives", "--set", name, f"/usr/sbin/{name}-legacy"])
    assert prevent(pyinfra).returncode == 0
    assert backend(bare) == (1, 0, 0, 0)
    bare.run(["systemctl", "stop", "dnsmend-backend.timer"])
    since = bare.run(["date", "+%s.%6N"]).stdout.strip()
    # What the package's prerm and postinst do when it is removed and installed again: manual becomes auto, and nft.
    for kind in ("legacy", "nft"):
        bare.run(["update-alternatives", "--remove", "iptables", f"/usr/sbin/iptables-{kind}"])
    for kind, priority in (("legacy", 10), ("nft", 20)):
        arguments = ["/usr/sbin/iptables", "iptables", f"/usr/sbin/iptables-{kind}", str(priority)]
        bare.run(["update-alternatives", "--install", *arguments])
    assert within(30, lambda: backend(bare)[:2] == (0, 3))
    said = errors(bare, "dnsmend-backend", since)
    assert "dnsmend: the alternative iptables is in auto mode; it had been chosen by hand" in said
    assert any(
        re.search(r"iptables is nft \(\S+\); it was legacy when this guard was installed", each) for each in said
    )
    assert bare.run(["systemctl", "is-failed", "dnsmend-backend"]).stdout.strip() == "failed"
    bare.run(["update-alternatives", "--set", "iptables", "/usr/sbin/iptables-legacy"])
    assert within(30, lambda: backend(bare) == (1, 0, 0, 0))
    bare.run(["ip6tables-nft", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT"])
    assert "the nft backend holds 1 chains of Kubernetes for IPv6" in "".join(run(bare, "dnsmend-backend"))
    assert backend(bare) == (0, 0, 1, 0)
    bare.run(["nft", "flush ruleset"])
    # Rules that iptables cannot show are not known, which is not "none".
    native = "add table ip nat; add chain ip nat KUBE-SERVICES; add rule ip nat KUBE-SERVICES fib daddr type local drop"
    bare.run(["nft", native])
    said = run(bare, "dnsmend-backend")
    assert "not known: the nft rules for IPv4" in said[0] and "is incompatible" in said[0]
    assert backend(bare) == (0, 0, 0, 1)
    for which in ("probe", "backend"):
        promtool("check", "metrics", given=bare.read(f"{METRICS}/dnsmend_{which}.prom"))


def test_stale_rules_are_seen_before_kubernetes_starts(bare: Node, pyinfra: Run) -> None:
    assert prevent(pyinfra).returncode == 0
    bare.run(["systemctl", "stop", "dnsmend-backend.timer", "dnsmend-backend.path"])
    quiet = state(bare)
    assert run(bare, "dnsmend-boot") == []
    # Neither a module nor a legacy table comes from looking.
    assert [line for line in state(bare) if "dnsmend_backend" not in line and "textfile" not in line] == [
        line for line in quiet if "dnsmend_backend" not in line and "textfile" not in line
    ]
    order = bare.run(["systemctl", "show", "dnsmend-boot", "-p", "Before", "--value"]).stdout.split()
    assert {"kubelet.service", "kube-proxy.service", "k3s.service"} <= set(order)
    bare.run(["iptables-legacy", "-t", "nat", "-N", "KUBE-SERVICES"])
    bare.run(["ip6tables-legacy", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT"])
    bare.run(["iptables-legacy", "-t", "nat", "-N", "KUBE-ROUTER-INPUT"])
    said = run(bare, "dnsmend-boot")
    assert backend(bare) == (0, 0, 2, 0)
    assert [re.sub(r": they.*", "", each) for each in said] == [
        "dnsmend: the legacy backend holds 1 chains of Kubernetes for IPv4, KUBE-SERVICES among them",
        "dnsmend: the legacy backend holds 1 chains of Kubernetes for IPv6, KUBE-IPTABLES-HINT among them",
    ]
    assert bare.run(["systemctl", "is-failed", "dnsmend-boot"]).stdout.strip() == "failed"
    # What cannot be read is not taken for empty.
    bare.write("/usr/local/sbin/iptables-legacy-save", "#!/bin/sh\necho broken >&2\nexit 3\n", 0o755)
    said = run(bare, "dnsmend-boot")
    assert backend(bare) == (0, 0, 1, 1)
    assert said[0] == (
        "dnsmend: not known: the legacy rules for IPv4: /usr/local/sbin/iptables-legacy-save failed: broken"
    )


KUBELET = """[Unit]
Description=kubelet
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
[Install]
WantedBy=multi-user.target
"""


@pytest.mark.parametrize("boot", ["report", "block", "restore"])
def test_what_a_boot_does(bare: Node, pyinfra: Run, boot: str) -> None:
    bare.write("/etc/systemd/system/kubelet.service", KUBELET)
    bare.run(["systemctl", "daemon-reload"])
    done = prevent(pyinfra, "--data", f"guard_boot={boot}")
    assert done.returncode == 0, done.stderr
    bare.run(["systemctl", "stop", "dnsmend-backend.timer", "dnsmend-backend.path"])
    bare.run(["update-alternatives", "--set", "iptables", "/usr/sbin/iptables-legacy"])
    # As at boot: both are wanted, and systemd orders them.
    started = bare.run(["systemctl", "start", "dnsmend-boot.service", "kubelet.service"], check=False)
    assert bare.active("kubelet.service") is (boot != "block"), started.stderr
    restored = bare.run(["readlink", "/etc/alternatives/iptables"]).stdout.strip() == "/usr/sbin/iptables-nft"
    assert restored is (boot == "restore")
    assert backend(bare) == ((1, 0, 0, 0) if restored else (0, 2, 0, 0))
    bare.run(["update-alternatives", "--set", "iptables", "/usr/sbin/iptables-nft"])
    bare.run(["systemctl", "start", "kubelet.service"])
    assert bare.active("kubelet.service")
    # Removing the guard must not take down what requires it.
    removed = prevent(pyinfra, "--data", "remove=true")
    assert removed.returncode == 0, removed.stderr
    assert bare.active("kubelet.service")
    assert not bare.active("dnsmend-boot.service")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("guard_boot=blck", "--data guard_boot = 'blck': must be one of report, block, restore"),
        ("guard_metrics=/var/../etc", "--data guard_metrics = '/var/../etc': must be the absolute path of a folder"),
        ("remove=perhaps", "--data remove='perhaps': must be true or false"),
    ],
)
def test_what_the_policy_cannot_hold(lab: Lab, pyinfra: Run, data: str, sentence: str) -> None:
    done = prevent(pyinfra, "--data", data)
    assert done.returncode == 1
    assert sentence in done.stderr


def test_refusals(bare: Node, pyinfra: Run) -> None:
    bare.run(["iptables-legacy", "-t", "nat", "-N", "KUBE-SERVICES"])
    bare.run(["update-alternatives", "--set", "iptables", "/usr/sbin/iptables-legacy"])
    refused = prevent(pyinfra)
    assert refused.returncode == 1
    assert "node-0: iptables is legacy, ip6tables is nft: there is no one backend to guard" in refused.stderr
    bare.run(["update-alternatives", "--auto", "iptables"])
    stale = prevent(pyinfra)
    assert "node-0: iptables-legacy nat: 1 chains, 0 rules are stale (the node's iptables is nft)" in stale.stderr
    wanted = prevent(pyinfra, "--data", "iptables_backend=legacy")
    assert "node-0: iptables is nft, ip6tables is nft, and the policy wants legacy" in wanted.stderr
    clear(bare)
    block = prevent(pyinfra, "--data", "guard_boot=block")
    assert "node-0: guard_boot is block, and this node has no unit of Kubernetes" in block.stderr
    assert bare.run(["test", "-e", "/usr/local/lib/dnsmend"], check=False).returncode == 1

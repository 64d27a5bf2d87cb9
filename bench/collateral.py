"""What an operation costs those who are served meanwhile: `make collateral`, or `python -m bench.collateral --runs 5`.

On the lab that is up, as a user starts them: while each operation runs on node-0, questions are asked from it, from a
pod and from the LAN, and a TCP connection and a UDP flow go from the pod through the node. What is lost is counted, and
docs/collateral.md written. All traffic stays within the lab's namespaces; no load lasts longer than two minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench import collateral_load, collateral_page
from bench.collateral_page import ASKERS, Figures, Sample, figures
from lab.api import Lab
from lab.places import Node, Place

NODE = "node-0"
#: Questions and messages a second. One that is lost stands for 20 ms over UDP, and 40 ms over TCP.
UDP_RATE, TCP_RATE, FLOW_RATE = 50, 25, 50
#: Seconds of load before an operation, and after those that still belong to it: they must lose nothing.
CONTROL = 2.0
#: Seconds after pyinfra's end that still belong to an operation.
BEHIND = 1.0
PORT = 7777
PAGE = Path(__file__).resolve().parent.parent / "docs" / "collateral.md"
#: Services of which rules are left in the other backend.
STALE_SERVICES = 1000


class Disturbed(Exception):
    """Something was lost before or after the operation, or it was not proven: what is lost beside it says nothing."""


@dataclass(frozen=True)
class Step:
    """One command of pyinfra that is measured.

    + askers: those who are answered before it and after it
    + changes: whether it must change something: what has nothing to do costs nothing
    """

    name: str
    words: Sequence[str]
    askers: Sequence[str] = ASKERS
    changes: bool = True


@dataclass(frozen=True)
class Case:
    """Steps on a node that has been prepared for them."""

    prepare: Callable[[Lab, Node], None]
    steps: Sequence[Step]


def _nothing(lab: Lab, node: Node) -> None:
    """The node as it is."""


def _excluded(lab: Lab, node: Node) -> None:
    lab.inject("dnsmasq-except-cilium", node.name)


def _legacy(lab: Lab, node: Node) -> None:
    for name in ("iptables", "ip6tables"):
        node.run(["update-alternatives", "--set", name, f"/usr/sbin/{name}-legacy"])


def stale(services: int) -> str:
    """Rules of kube-proxy, for iptables-restore: a chain and a rule per service, none of which is asked here."""
    chains = [f"KUBE-SVC-{number:016X}" for number in range(services)]
    rules = [
        f"-A KUBE-SERVICES -d 10.{96 + number // 65536}.{number // 256 % 256}.{number % 256}/32 -p tcp -m tcp "
        f"--dport 80 -j {chain}"
        for number, chain in enumerate(chains)
    ]
    jumps = [
        f'-A {chain} -m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
        for chain in ("PREROUTING", "OUTPUT")
    ]
    lines = ["*nat", ":KUBE-SERVICES - [0:0]", *(f":{chain} - [0:0]" for chain in chains), *jumps, *rules, "COMMIT"]
    return "\n".join(lines) + "\n"


def _stale(lab: Lab, node: Node) -> None:
    for command in ("iptables-nft-restore", "iptables-legacy-restore"):
        node.run([command, "--noflush"], stdin=stale(STALE_SERVICES))


def _tracked(lab: Lab, node: Node) -> None:
    """A network namespace tracks connections only while a rule asks for it."""
    for chain in ("INPUT", "OUTPUT", "FORWARD"):
        node.run(["iptables-nft", "-A", chain, "-m", "conntrack", "--ctstate", "NEW,ESTABLISHED", "-j", "ACCEPT"])


def _operation(name: str, *arguments: str) -> list[str]:
    return [f"operations.{name}", *arguments]


UNDO = ("deploys/undo.py", "--data", "run=last")
SERVED = ("node", "LAN")


def cases(vip: str) -> list[Case]:
    """Everything that is measured. Pods are not served before a repair of dnsmasq, nor after it has been undone."""
    policies = [
        Case(
            _excluded,
            [
                Step(f"`fix_dns.py`: dnsmasq, policy {policy}", ["deploys/fix_dns.py", "--data", key], SERVED),
                Step(f"`undo.py`: dnsmasq, policy {policy}", UNDO, SERVED),
            ],
        )
        for policy in ("except-lo", "bind-dynamic", "named")
        for key in (f"dnsmasq_interface_policy={policy}",)
    ]
    setting = json.dumps([[{"net.ipv4.ip_default_ttl": "63"}], {}])
    flush = json.dumps([["dns"], {"vips": [vip]}])
    return [
        Case(_nothing, [Step("`diagnose.py`, nothing wrong", ["deploys/diagnose.py"], changes=False)]),
        Case(_nothing, [Step("`fix_dns.py`, nothing wrong: plan and proof", ["deploys/fix_dns.py"], changes=False)]),
        *policies,
        Case(
            _legacy,
            [
                Step("`alternatives.backend`: legacy to nft", _operation("alternatives.backend", "target=nft")),
                Step("`undo.py`: nft to legacy", UNDO),
            ],
        ),
        Case(
            _stale,
            [
                Step(
                    f"`netfilter.remove_stale`: {STALE_SERVICES} services' rules in legacy",
                    _operation("netfilter.remove_stale", "losing=legacy"),
                ),
                Step("`undo.py`: these rules", UNDO),
            ],
        ),
        Case(
            _nothing,
            [
                Step("`sysctl.settings`: one setting", _operation("sysctl.settings", setting)),
                Step("`undo.py`: that setting", UNDO),
            ],
        ),
        Case(_tracked, [Step("`conntrack.flush`: DNS flows of the VIP", _operation("conntrack.flush", flush))]),
        Case(
            _nothing,
            [
                Step("`prevent.py`: guards installed", ["deploys/prevent.py"]),
                Step("`prevent.py --data remove=true`", ["deploys/prevent.py", "--data", "remove=true"]),
            ],
        ),
    ]


@contextmanager
def running(place: Place, *words: object) -> Iterator[subprocess.Popen[str]]:
    """The load's program in a place. It ends with its standard input, so also with this process."""
    place.require_alive()
    text = Path(collateral_load.__file__).read_text(encoding="utf-8")
    argv = [*place.entry, "python3", "-IBS", "-c", text, *map(str, words)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.communicate(timeout=30)


def measured(lab: Lab, step: Step) -> Figures:
    """One run of a step under load. Raises RuntimeError where it does nothing, and Disturbed."""
    node, outside = lab.node(NODE), lab.bare_metal
    pod, vip = node.pod("client"), node.plan.vip
    places: dict[str, Place] = {"node": node, "pod": pod, "LAN": outside}
    said: dict[str, dict[str, list[Sample]]] = {}
    with running(outside, "echo", PORT) as other_end:
        if other_end.stdout is None or not other_end.stdout.readline():
            raise RuntimeError("the other end of the flows did not start")
        with (
            running(places["node"], "ask", vip, UDP_RATE, TCP_RATE) as from_node,
            running(places["pod"], "ask", vip, UDP_RATE, TCP_RATE) as from_pod,
            running(places["LAN"], "ask", vip, UDP_RATE, TCP_RATE) as from_lan,
            running(pod, "flow", outside.address, PORT, FLOW_RATE) as through,
        ):
            time.sleep(CONTROL)
            began = time.monotonic()
            done = _pyinfra(step.words)
            ended = time.monotonic()
            time.sleep(BEHIND + CONTROL + collateral_load.DEADLINE)
            loads = {"node": from_node, "pod": from_pod, "LAN": from_lan, "flows": through}
            for name, process in loads.items():
                said[name] = json.loads(process.communicate(timeout=30)[0])
    if done.returncode:
        raise Disturbed(f"{step.name} failed:\n{done.stderr[-2000:]}")
    if step.changes and f"[{NODE}] Success" not in done.stderr:
        raise RuntimeError(f"{step.name} has changed nothing:\n{done.stderr[-2000:]}")
    wanted = [*step.askers, "flows"]
    ended += BEHIND
    for begin, end in ((0.0, began), (ended, ended + CONTROL)):
        control = {name: figures(said[name], begin, end) for name in wanted}
        if lost := [name for name, found in control.items() if any(each["lost"] for each in found.values())]:
            raise Disturbed(
                f"{step.name}: {', '.join(lost)} lost something before or after it: other work disturbs this"
            )
    return {name: figures(said[name], began, ended) for name in wanted}


def _pyinfra(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyinfra", "-y", "--limit", NODE, "inventory", *words],
        cwd=PAGE.parent.parent,
        env=os.environ | {"PYINFRA_PROGRESS": "off", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=collateral_load.MOST - 10,
    )


def main() -> int:
    """Measure every case so many times, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.collateral", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of every operation (default 3)")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only cases with this in a step's name; writes no page"
    )
    arguments = parser.parse_args()
    lab = Lab.attach()
    node = lab.node(NODE)
    found: dict[str, list[Figures]] = {}
    loads: list[float] = []
    repeated: list[str] = []
    for run in range(1, arguments.runs + 1):
        for case in cases(node.plan.vip):
            if not any(arguments.only in step.name for step in case.steps):
                continue
            for step, seen in zip(case.steps, _undisturbed(lab, node, case, repeated), strict=True):
                found.setdefault(step.name, []).append(seen)
                loads.append(os.getloadavg()[0])
                print(f"run {run}: {step.name}: {collateral_page.brief(seen)}", file=sys.stderr, flush=True)
            # After each case: what is interrupted has been measured all the same.
            if not arguments.only:
                PAGE.write_text(collateral_page.page(found, _where(loads, len(repeated))))
    lab.heal(NODE)
    print(collateral_page.table(found))
    return 0


def _undisturbed(lab: Lab, node: Node, case: Case, repeated: list[str]) -> list[Figures]:
    """A case's figures, from its third try at the latest. Raises Disturbed.

    + repeated: gets the reasons of those that do not count
    """
    for attempt in range(3):
        lab.heal(NODE)
        case.prepare(lab, node)
        try:
            return [measured(lab, step) for step in case.steps]
        except Disturbed as reason:
            print(f"once more: {reason}", file=sys.stderr, flush=True)
            repeated.append(str(reason))
            if attempt == 2:
                raise
    raise AssertionError


def _where(loads: Sequence[float], repeated: int) -> Mapping[str, str]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, load average {min(loads):.0f} to {max(loads):.0f}",
        "repeated": str(repeated),
        "rates": f"{UDP_RATE} questions a second over UDP and {TCP_RATE} over TCP",
        "flow": f"{FLOW_RATE} messages a second",
    }


if __name__ == "__main__":
    raise SystemExit(main())

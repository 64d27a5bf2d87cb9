"""One backend for both families: selected, kept, refused where it cannot be, and taken back."""

from __future__ import annotations

import re
import time

import pytest

from facts.alternatives import Alternative, Backends, Choice, Command
from facts.kernel import KernelState
from facts.netfilter import Backend
from facts.reading import Reading
from lab.places import Node
from models.refused import Refused
from operations.alternatives import Selection, check_kernel, resolve, selections
from tests.models.rulesets import MIXED, ruleset, table
from tests.operations.conftest import Operate
from tests.operations.rules import files, load, saves

HINT = table("mangle", "KUBE-KUBELET-CANARY")


def rules(*found: object) -> Reading[list]:  # type: ignore[type-arg]
    return {"state": "value", "value": list(found), "detail": ""}


def test_targets() -> None:
    assert resolve("legacy", rules()) == "legacy"
    assert resolve("nft", rules()) == "nft"
    assert resolve("match-majority", rules(), "legacy") == "legacy"
    assert resolve("match-kubelet", rules(*MIXED)) == "nft"
    assert resolve("match-kubelet", rules(ruleset("legacy", 4, HINT))) == "legacy"


def test_targets_that_cannot_be_told() -> None:
    with pytest.raises(Refused, match="more than half"):
        resolve("match-majority", rules())
    with pytest.raises(Refused, match="both backends hold the kubelet's chains"):
        resolve("match-kubelet", rules(ruleset("legacy", 4, HINT), ruleset("nft", 4, HINT)))
    with pytest.raises(Refused, match="neither backend holds"):
        resolve("match-kubelet", rules())
    with pytest.raises(Refused, match="its rules are not known: not permitted: denied"):
        resolve("match-kubelet", {"state": "not permitted", "value": [], "detail": "denied"})


def choice(path: str, **slaves: str) -> Choice:
    return {"path": path, "priority": 10, "slaves": slaves}


def group(name: str, now: str, *choices: Choice, manual: bool = False) -> Alternative:
    return {
        "name": name,
        "link": f"/usr/sbin/{name}",
        "status": "manual" if manual else "auto",
        "best": now,
        "value": now,
        "choices": list(choices) or [choice(f"/usr/sbin/{name}-legacy"), choice(f"/usr/sbin/{name}-nft")],
        "changed": 0,
    }


def command(name: str, backend: Backend, path: str = "/usr/sbin") -> Command:
    return {"name": name, "path": f"{path}/{name}", "program": "multi", "version": "1.8.9", "backend": backend}


def debian(v4: Backend, v6: Backend, manual: bool = False) -> Backends:
    return {
        "groups": [
            group("iptables", f"/usr/sbin/iptables-{v4}", manual=manual),
            group("ip6tables", f"/usr/sbin/ip6tables-{v6}", manual=manual),
            group("ebtables", "/usr/sbin/ebtables-nft"),
        ],
        "commands": [command("iptables", v4), command("ip6tables", v6)],
    }


def test_both_families_and_only_what_differs() -> None:
    assert [each.name for each in selections(debian("nft", "nft"), "legacy")] == ["iptables", "ip6tables"]
    assert selections(debian("legacy", "nft", manual=True), "legacy") == [
        Selection("ip6tables", "/usr/sbin/ip6tables-legacy", "/usr/sbin/ip6tables-nft", False)
    ]
    assert selections(debian("legacy", "legacy", manual=True), "legacy") == []
    assert selections(None, "legacy") == []


def test_auto_is_fixed_where_it_happens_to_be_right() -> None:
    assert [(each.path, each.auto) for each in selections(debian("nft", "nft"), "nft")] == [
        ("/usr/sbin/iptables-nft", True),
        ("/usr/sbin/ip6tables-nft", True),
    ]


def red_hat(*choices: str) -> Backends:
    made = [choice(path, ip6tables=path.replace("/iptables", "/ip6tables")) for path in choices]
    return {
        "groups": [group("iptables", choices[0], *made)],
        "commands": [command("iptables", "nft"), command("ip6tables", "nft")],
    }


def test_one_group_with_slaves_takes_ip6tables_along() -> None:
    both = red_hat("/usr/sbin/iptables-nft", "/usr/sbin/iptables-legacy")
    assert [each.path for each in selections(both, "legacy")] == ["/usr/sbin/iptables-legacy"]


def test_refusals() -> None:
    with pytest.raises(
        Refused, match=r"legacy is not registered with update-alternatives, only /usr/sbin/iptables-nft$"
    ):
        selections(red_hat("/usr/sbin/iptables-nft"), "legacy")
    alone: Backends = {"groups": [], "commands": [command("iptables", "nft")]}
    with pytest.raises(
        Refused, match=r"iptables is /usr/sbin/iptables .nft., and there is no update-alternatives group"
    ):
        selections(alone, "legacy")
    assert selections(alone, "nft") == []
    shadowed = debian("legacy", "legacy", manual=True)
    shadowed["commands"][0] = command("iptables", "nft", "/usr/local/sbin")
    with pytest.raises(Refused, match="/usr/local/sbin/iptables comes first in the PATH"):
        selections(shadowed, "legacy")


def kernel(ip_tables: str) -> Reading[KernelState]:
    value = {"sysctls": {}, "modules": {"ip_tables": ip_tables, "ip6_tables": "loaded"}, "config": {}}
    return {"state": "value", "value": value, "detail": ""}  # type: ignore[typeddict-item]


def test_a_kernel_without_legacy() -> None:
    with pytest.raises(Refused, match="built without legacy"):
        check_kernel(kernel("not built"), None)
    check_kernel(kernel("unknown"), None)
    words = "can't initialize iptables table `nat': Table does not exist"
    with pytest.raises(Refused, match="no legacy iptables for IPv6: can't initialize"):
        check_kernel(
            kernel("unknown"),
            {
                "state": "value",
                "value": [
                    {"family": 4, "usable": True, "words": ""},
                    {"family": 6, "usable": False, "words": words},
                ],
                "detail": "",
            },
        )
    with pytest.raises(Refused, match="its legacy iptables are not known: tool missing"):
        check_kernel(kernel("unknown"), {"state": "tool missing", "value": [], "detail": "unshare not found"})


def selected(node: Node) -> dict[str, str]:
    """Group -> status and path, of all four groups."""
    found = {}
    for name in ("iptables", "ip6tables", "arptables", "ebtables"):
        said = node.run(["update-alternatives", "--query", name]).stdout
        found[name] = " ".join(re.findall(r"^(?:Status|Value): (\S+)", said, re.MULTILINE))
    return found


def versions(node: Node) -> str:
    return node.run(["sh", "-c", "iptables -V; ip6tables -V"]).stdout


AUTO = {
    "iptables": "auto /usr/sbin/iptables-nft",
    "ip6tables": "auto /usr/sbin/ip6tables-nft",
    "arptables": "auto /usr/sbin/arptables-nft",
    "ebtables": "auto /usr/sbin/ebtables-nft",
}
LEGACY = AUTO | {"iptables": "manual /usr/sbin/iptables-legacy", "ip6tables": "manual /usr/sbin/ip6tables-legacy"}


@pytest.mark.lab
def test_selected_once_and_taken_back_to_auto(bare: Node, operate: Operate) -> None:
    assert selected(bare) == AUTO
    done = operate("alternatives.backend", "legacy", "run=first")
    assert done.returncode == 0, done.stderr
    assert selected(bare) == LEGACY
    assert versions(bare).count("(legacy)") == 2
    again = operate("alternatives.backend", "legacy", "run=second")
    assert again.returncode == 0 and "Success" not in again.stderr.split("--> Results:")[0]
    assert bare.run(["ls", "/var/lib/dnsmend"]).stdout.split() == ["first"]
    undone = operate("runs.undo", "first")
    assert undone.returncode == 0, undone.stderr
    assert selected(bare) == AUTO
    assert bare.run(["systemctl", "list-timers", "--all"]).stdout.count("dnsmend") == 0


@pytest.mark.lab
def test_only_ip6tables_differs(bare: Node, operate: Operate) -> None:
    bare.run(["update-alternatives", "--set", "iptables", "/usr/sbin/iptables-legacy"])
    bare.run(["update-alternatives", "--set", "ip6tables", "/usr/sbin/ip6tables-nft"])
    before = selected(bare)
    assert operate("alternatives.backend", "legacy", "run=first").returncode == 0
    assert selected(bare) == LEGACY
    assert operate("runs.undo", "first").returncode == 0
    assert selected(bare) == before


@pytest.mark.lab
def test_as_the_kubelet(bare: Node, operate: Operate) -> None:
    load(bare, "iptables-legacy", "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n")
    assert operate("alternatives.backend", "match-kubelet").returncode == 0
    assert selected(bare) == LEGACY


@pytest.mark.lab
def test_a_dry_run_changes_nothing(bare: Node, operate: Operate) -> None:
    before = (selected(bare), saves(bare), files(bare))
    done = operate("alternatives.backend", "legacy", dry=True)
    assert done.returncode == 0, done.stderr
    assert "iptables: /usr/sbin/iptables-nft (auto) -> /usr/sbin/iptables-legacy" in done.stderr
    assert (selected(bare), saves(bare), files(bare)) == before


@pytest.mark.lab
def test_a_node_without_legacy_is_refused_and_left_alone(bare: Node, operate: Operate) -> None:
    words = "iptables v1.8.9 (legacy): can't initialize iptables table nat: Table does not exist"
    bare.write("/usr/local/sbin/iptables-legacy", f'#!/bin/sh\necho "{words}" >&2\nexit 3\n', 0o755)
    before = (selected(bare), saves(bare), files(bare))
    done = operate("alternatives.backend", "legacy")
    assert done.returncode == 1
    assert f"refused: this kernel has no legacy iptables for IPv4: {words}" in done.stderr
    assert (selected(bare), saves(bare), files(bare)) == before


@pytest.mark.lab
def test_a_command_that_does_not_follow_takes_it_back(bare: Node, operate: Operate) -> None:
    bare.write("/usr/local/sbin/iptables", "#!/bin/sh\necho 'iptables v1.8.9 (nf_tables)'\n", 0o755)
    done = operate("alternatives.backend", "legacy", "run=first")
    assert done.returncode == 1
    assert "/usr/local/sbin/iptables still says iptables v1.8.9 (nf_tables); everything is as it was" in done.stderr
    assert selected(bare) == AUTO


@pytest.mark.lab
def test_a_selection_that_was_made_since_is_left_alone(bare: Node, operate: Operate) -> None:
    bare.run(["update-alternatives", "--install", "/usr/sbin/iptables", "iptables", "/usr/bin/true", "1"])
    try:
        assert operate("alternatives.backend", "legacy", "run=first").returncode == 0
        bare.run(["update-alternatives", "--set", "iptables", "/usr/bin/true"])
        undone = operate("runs.undo", "first")
        assert undone.returncode == 1
        assert (
            "the alternative iptables has changed since run first: it is /usr/bin/true; nothing was undone"
            in undone.stderr
        )
        assert selected(bare)["ip6tables"] == LEGACY["ip6tables"]
    finally:
        bare.run(["update-alternatives", "--remove", "iptables", "/usr/bin/true"])


@pytest.mark.lab
def test_a_node_without_its_controller_goes_back_by_itself(bare: Node, operate: Operate) -> None:
    assert operate("alternatives.backend", "legacy", "undo_after=3").returncode == 0
    deadline = time.monotonic() + 60
    while selected(bare) != AUTO and time.monotonic() < deadline:
        time.sleep(0.5)
    assert selected(bare) == AUTO

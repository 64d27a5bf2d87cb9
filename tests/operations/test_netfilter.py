"""Stale rules go, everybody else's stay byte for byte and in order: on a real node, in both backends and families."""

from __future__ import annotations

import re
import time

import pytest

from lab.places import Node
from tests.operations.conftest import Operate
from tests.operations.rules import COMMANDS, files, is_owned, load, others, save, saves

pytestmark = pytest.mark.lab

SET = {"nft": "legacy", "legacy": "nft"}


def win(node: Node, backend: str) -> None:
    for name in ("iptables", "ip6tables"):
        node.run(["update-alternatives", "--set", name, f"/usr/sbin/{name}-{backend}"])


def journal(node: Node, step: str = "netfilter") -> str:
    return node.run(["sh", "-c", f"cat /var/lib/dnsmend/*/{step}/journal"]).stdout


def timers(node: Node) -> int:
    return node.run(["systemctl", "list-timers", "--all"]).stdout.count("dnsmend") // 2


@pytest.mark.parametrize("losing", ["nft", "legacy"])
def test_stale_rules_go_and_nothing_else(mixed: Node, operate: Operate, losing: str) -> None:
    win(mixed, SET[losing])
    before = saves(mixed)
    assert all(any(map(is_owned, lines)) for lines in before.values())
    done = operate("netfilter.remove_stale", f"losing={losing}", "run=first")
    assert done.returncode == 0, done.stderr
    after = saves(mixed)
    for command in COMMANDS:
        if command.endswith(losing):
            assert not [line for line in after[command] if is_owned(line)]
            assert after[command] == others(before[command])
        else:
            assert after[command] == before[command]
    assert len(others(before["iptables-nft"])) > 40
    assert timers(mixed) == 1

    again = operate("netfilter.remove_stale", f"losing={losing}", "run=second")
    assert again.returncode == 0 and "Success" not in again.stderr.split("--> Results:")[0]
    assert mixed.run(["ls", "/var/lib/dnsmend"]).stdout.split() == ["first"]

    undone = operate("runs.undo", "first")
    assert undone.returncode == 0, undone.stderr
    assert saves(mixed) == before
    assert f"iptables-{losing}: every rule is as it was" in journal(mixed)
    assert timers(mixed) == 0


def test_the_counters_of_others_stay(mixed: Node, operate: Operate) -> None:
    win(mixed, "legacy")
    rule = r'\[7:420\] -A INPUT -m comment --comment "cali:Cz_u1IQiXIMmKD4c" -j cali-INPUT'
    done = operate("netfilter.remove_stale", "losing=nft", "run=first")
    assert done.returncode == 0, done.stderr
    counted = mixed.run(["iptables-nft-save", "-c"]).stdout
    packets = re.search(r"\[(\d+):\d+\] -A INPUT -m comment --comment \"cali:Cz", counted)
    assert packets and int(packets[1]) >= 7, rule


def test_only_the_hints(mixed: Node, operate: Operate) -> None:
    before = saves(mixed)
    done = operate("netfilter.remove_hints", "losing=nft", "run=first")
    assert done.returncode == 0, done.stderr
    after = saves(mixed)
    for command in COMMANDS:
        gone = [line for line in before[command] if line not in after[command]]
        hints = [":KUBE-IPTABLES-HINT -", ":KUBE-KUBELET-CANARY -", ":KUBE-PROXY-CANARY -"]
        assert gone == [line for line in before[command] if command.endswith("nft") and line in hints]
    assert operate("runs.undo", "first").returncode == 0
    assert saves(mixed) == before


def test_a_dry_run_names_what_it_would_remove_and_changes_nothing(mixed: Node, operate: Operate) -> None:
    before = (saves(mixed), files(mixed))
    done = operate("netfilter.remove_stale", "losing=nft", dry=True)
    assert done.returncode == 0, done.stderr
    assert "stale: iptables-nft nat: 10 chains, 14 rules" in done.stderr
    assert "stale: ip6tables-nft mangle: 3 chains, 0 rules" in done.stderr
    assert (saves(mixed), files(mixed)) == before


@pytest.mark.parametrize("command", ["iptables-nft", "ip6tables-nft"])
def test_a_foreign_jump_into_an_owned_chain_stops_it(mixed: Node, operate: Operate, command: str) -> None:
    win(mixed, "legacy")
    rule = "INPUT -p tcp -m tcp --dport 179 -m comment --comment bgp -j KUBE-FIREWALL"
    mixed.run([command, "-A", *rule.split()])
    before = saves(mixed)
    done = operate("netfilter.remove_stale", "losing=nft")
    assert done.returncode == 1
    assert f"refused: {command}: a rule of somebody else's leads into KUBE-FIREWALL" in done.stderr
    assert rule in done.stderr
    assert saves(mixed) == before
    assert timers(mixed) == 0


def test_it_is_refused_while_the_rules_are_in_use(mixed: Node, operate: Operate) -> None:
    before = saves(mixed)
    done = operate("netfilter.remove_stale", "losing=nft")
    assert done.returncode == 1 and "iptables is still nft here" in done.stderr
    win(mixed, "legacy")
    load(mixed, "iptables-legacy", "*nat\nCOMMIT\n")
    load(mixed, "ip6tables-legacy", "*nat\nCOMMIT\n")
    done = operate("netfilter.remove_stale", "losing=nft")
    assert done.returncode == 1 and "kube-proxy has written no rules to legacy yet" in done.stderr
    assert save(mixed, "iptables-nft") == before["iptables-nft"]


def test_the_way_back_keeps_what_others_have_written_since(mixed: Node, operate: Operate) -> None:
    win(mixed, "legacy")
    before = save(mixed, "iptables-nft")
    assert operate("netfilter.remove_stale", "losing=nft", "run=first").returncode == 0
    mixed.run(["iptables-nft", "-t", "nat", "-D", "PREROUTING", "1"])
    mixed.run(["iptables-nft", "-t", "nat", "-A", "DOCKER", "-p", "tcp", "--dport", "80", "-j", "RETURN"])
    mixed.run(["iptables-nft", "-t", "filter", "-N", "KUBE-FORWARD"])
    mixed.run(["iptables-nft", "-t", "filter", "-A", "KUBE-FORWARD", "-j", "ACCEPT"])
    held = saves(mixed)
    refused = operate("runs.undo", "first")
    assert refused.returncode == 1
    assert (
        "rules are present again in iptables-nft, table filter: KUBE-FORWARD (removed by run first)" in refused.stderr
    )
    assert saves(mixed) == held
    # What a node takes back by itself, and what was not proven, goes back as far as it can.
    undone = operate("runs.undo", "first", "whole=false")
    assert undone.returncode == 0, undone.stderr
    after = save(mixed, "iptables-nft")
    assert "-A DOCKER -p tcp -m tcp --dport 80 -j RETURN" in after
    assert [line for line in after if line.startswith("-A KUBE-FORWARD")] == ["-A KUBE-FORWARD -j ACCEPT"]
    kept = {line for line in before if is_owned(line) and not line.startswith("-A KUBE-FORWARD")}
    assert kept <= set(after)
    assert "kept: somebody has written KUBE-FORWARD since" in journal(mixed)
    assert "others have written since" in journal(mixed)


def test_a_node_without_its_controller_brings_the_rules_back_by_itself(mixed: Node, operate: Operate) -> None:
    win(mixed, "legacy")
    before = saves(mixed)
    assert operate("netfilter.remove_stale", "losing=nft", "undo_after=3", "run=first").returncode == 0
    deadline = time.monotonic() + 60
    while saves(mixed) != before and time.monotonic() < deadline:
        time.sleep(0.5)
    assert saves(mixed) == before
    assert "undone: not confirmed within 3 s" in journal(mixed)


def interfere(node: Node, command: str, instead: str) -> None:
    """Put a script before the real restore command; it gets to that by `real`."""
    real = f'real() {{ /usr/sbin/{command}-restore "$@"; }}'
    test = "test() { case $* in *--test*) ;; *) false ;; esac; }"
    text = "\n".join(["#!/bin/sh", real, test, instead, ""])
    node.write(f"/usr/local/sbin/{command}-restore", text, 0o755)


def test_a_rule_that_went_meanwhile_is_planned_for_again(mixed: Node, operate: Operate) -> None:
    """kube-proxy is still at work: its jump is gone between the save and the restore, and fails once."""
    win(mixed, "legacy")
    before = saves(mixed)
    delete = 'iptables-nft -t nat -D OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
    interfere(mixed, "iptables-nft", f'test "$@" || [ -e /run/once ] || {{ touch /run/once; {delete}; }}\nreal "$@"')
    done = operate("netfilter.remove_stale", "losing=nft", "run=first")
    assert done.returncode == 0, done.stderr
    assert "iptables-nft: attempt 1: iptables-nft-restore" in journal(mixed)
    assert save(mixed, "iptables-nft") == others(before["iptables-nft"])
    assert operate("runs.undo", "first").returncode == 0
    assert saves(mixed) == before
    assert "kept" not in journal(mixed)


def test_half_a_removal_is_taken_back(mixed: Node, operate: Operate) -> None:
    win(mixed, "nft")
    before = saves(mixed)
    fails = 'test "$@" && real "$@" && exit\ncase $* in *-c*) real "$@" ;; *) echo "no" >&2; exit 4 ;; esac'
    interfere(mixed, "ip6tables-legacy", fails)
    done = operate("netfilter.remove_stale", "losing=legacy", "run=first")
    assert done.returncode == 1
    assert "ip6tables-legacy: no; everything is as it was" in done.stderr
    assert journal(mixed).count("ip6tables-legacy: attempt") == 3
    assert "iptables-legacy: removed 20 chains" in journal(mixed)
    assert saves(mixed) == before
    assert timers(mixed) == 0


def test_rules_of_others_that_move_meanwhile_are_a_reason_to_go_back(mixed: Node, operate: Operate) -> None:
    win(mixed, "legacy")
    before = save(mixed, "iptables-nft")
    add = "iptables-nft -A DOCKER-USER -s 192.0.2.9/32 -j DROP"
    interfere(mixed, "iptables-nft", f'test "$@" || [ -e /run/once ] || {{ touch /run/once; {add}; }}\nreal "$@"')
    done = operate("netfilter.remove_stale", "losing=nft", "run=first")
    assert done.returncode == 1
    assert "iptables-nft: rules of others changed meanwhile; everything is as it was" in done.stderr
    assert [line for line in save(mixed, "iptables-nft") if "192.0.2.9" not in line] == before


def test_looking_creates_no_legacy_table(bare: Node, operate: Operate) -> None:
    load(bare, "iptables-nft")
    names = ["sh", "-c", "sort /proc/net/ip_tables_names /proc/net/ip6_tables_names"]
    registered = bare.run(names).stdout
    assert operate("netfilter.remove_hints", "losing=nft").returncode == 0
    assert operate("netfilter.remove_stale", "losing=legacy").returncode == 0
    assert bare.run(names).stdout == registered


@pytest.mark.parametrize("losing", ["nft", "legacy"])
def test_thirty_thousand_rules(mixed: Node, operate: Operate, losing: str) -> None:
    win(mixed, SET[losing])
    command = f"iptables-{losing}"
    load(mixed, command, large(10_000))
    before = save(mixed, command)
    assert len(before) > 40_000
    started = time.monotonic()
    done = operate("netfilter.remove_stale", f"losing={losing}", "run=first")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 60
    assert save(mixed, command) == others(before)
    assert operate("runs.undo", "first").returncode == 0
    assert save(mixed, command) == before


def large(endpoints: int) -> str:
    """A nat table with three rules for each endpoint, among somebody else's."""
    names = [f"{number:016d}" for number in range(endpoints)]
    lines = ["*nat", ":PREROUTING ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", ":KUBE-SERVICES - [0:0]", ":MINE - [0:0]"]
    lines += [f":KUBE-SVC-{name} - [0:0]" for name in names] + [f":KUBE-SEP-{name} - [0:0]" for name in names]
    lines += [
        "-A PREROUTING -p tcp -m tcp --dport 1 -j MINE",
        '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
        "-A PREROUTING -p tcp -m tcp --dport 2 -j MINE",
        "-A MINE -j RETURN",
    ]
    for number, name in enumerate(names):
        address = f"10.{32 + number // 65536}.{number // 256 % 256}.{number % 256}"
        lines.append(f"-A KUBE-SERVICES -d {address}/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-{name}")
        lines.append(f"-A KUBE-SVC-{name} -j KUBE-SEP-{name}")
        lines.append(f"-A KUBE-SEP-{name} -p tcp -m tcp -j DNAT --to-destination 10.244.1.1:{number % 60000 + 1}")
    return "\n".join([*lines, "COMMIT", ""])

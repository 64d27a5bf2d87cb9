"""What an account may run that may also fix: each script of a fix whatever data it holds, and nothing like one."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest

from facts.kernel import LegacyPreflight
from facts.runs import Runs, UndoPlan
from models.dnsmasq_edits import Edit, drop_default
from models.interface_policy import Plan
from models.stale_rules import Stale
from operations import alternatives, conntrack, dnsmasq, kube_proxy, kubelet, lock, netfilter, restricted_shell, runs
from operations.allowed_fixing import fixing
from operations.allowed_reading import reading
from operations.alternatives import Selection
from operations.scripts import step_script
from operations.sysctl import FILE

RUN = "20261122T080000Z-1f3a"
EDITS = (
    Edit("/etc/dnsmasq.d/k8s.conf", "except-interface=cilium_*\n", "#dnsmend: except-interface=cilium_*\n"),
    Edit("/etc/dnsmasq.d/dnsmend.conf", None, "except-interface=lo\n"),
)
SELECTIONS = [
    Selection("iptables", "/usr/sbin/iptables-legacy", "/usr/sbin/iptables-nft", True),
    Selection("ip6tables", "/usr/sbin/ip6tables-legacy", "/usr/sbin/ip6tables-nft", False),
]
POD = {"name": "kube-proxy-x7k2p", "namespace": "kube-system", "sandbox": "9f" * 32}


@cache
def known() -> dict[str, Any]:
    """As a node has it."""
    return cast("dict[str, Any]", json.loads(json.dumps(fixing())))


@pytest.fixture(autouse=True)
def _fixes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restricted_shell, "KNOWN", known())


def change(*edits: Edit) -> dnsmasq.Change:
    argv = ("/usr/sbin/dnsmasq", "-x", "/run/dnsmasq/dnsmasq.pid", "-u", "dnsmasq", "--trust-anchor=.,20326,8,2,e 0")
    plan = Plan(edits or EDITS, argv, (), "pod it's -> 172.25.4.1 is not answered", cast(Any, None), cast(Any, None))
    instance = cast(Any, {"unit": "dnsmasq.service", "pid": 12})
    return dnsmasq.Change("dnsmasq", instance, ("172.25.4.1",), plan)


def stale(command: str) -> Stale:
    return cast(Stale, type("Stale", (), {"backend": "nft", "command": command})())


def restart(proxy: dict[str, object]) -> str:
    given = cast(Any, {"pod": None, **proxy})
    command, again = kube_proxy.restart_command(given), kube_proxy.again_command(given)
    return kube_proxy.locked(command, "", "", RUN, again)


def settings(wanted: dict[str, str]) -> str:
    now = dict.fromkeys(wanted, "0")
    return step_script(
        "set-sysctls.sh.j2", RUN, "sysctl", 180, about="IPVS-006: it's so", now=now, wanted=wanted, file=FILE
    )


IPVS = {"net.ipv4.vs.conntrack": "1", "net.ipv4.vs.expire_nodest_conn": "1"}
FLUSH = " && ".join(conntrack.delete_command(vip) for vip in ("10.32.0.10", "fd00::a"))
SCRIPTS: dict[str, tuple[str, str]] = {
    "files": ("change-files", dnsmasq.script(change(), RUN, 180)),
    "one file": ("change-files", dnsmasq.script(change(EDITS[0]), RUN, 180)),
    "alternatives": (
        "set-alternatives",
        alternatives.script(SELECTIONS, ["iptables", "iptables-save"][:1], "legacy", RUN, 600),
    ),
    "rules": (
        "remove-rules",
        netfilter.script(
            [stale("iptables-nft"), stale("ip6tables-nft")], ["iptables-nft", "iptables-legacy"], False, RUN, 600
        ),
    ),
    "hints": ("remove-rules", netfilter.script([stale("iptables-nft")], ["iptables-nft"], True, RUN, 600)),
    "settings": ("set-sysctls", settings(IPVS)),
    "room for flows": ("set-sysctls", settings({"net.netfilter.nf_conntrack_max": "262144"})),
    "a unit": ("kube-proxy's unit", restart({"form": "systemd", "unit": "kube-proxy.service"})),
    "k3s": ("kube-proxy's unit", restart({"form": "k3s-agent", "unit": "k3s-agent.service"})),
    "a pod": ("kube-proxy's pod", restart({"form": "DaemonSet", "pod": POD})),
    "the kubelet": ("the kubelet", str(kubelet.restart_command("812").get_raw_value())),
    "flows": ("DNS flows", FLUSH),
    "one address": ("DNS flows", conntrack.delete_command("10.32.0.10")),
    "the lock": ("the lock", str(lock.Answer().command("take", RUN).get_raw_value())),
    "to undo": ("the lock, to undo", str(lock.Answer().command("renew", RUN, "20261121T080000Z-1f3a").get_raw_value())),
    "proven": ("proven", str(next(runs.confirm(RUN)).get_raw_value())),
    "preflight": ("LegacyPreflight", LegacyPreflight().command()),
}


@pytest.mark.parametrize(("name", "script"), SCRIPTS.values(), ids=SCRIPTS)
def test_every_script_of_a_fix_is_known(name: str, script: str) -> None:
    assert restricted_shell.known(script)[0] == name


@pytest.mark.parametrize(("name", "script"), SCRIPTS.values(), ids=SCRIPTS)
def test_reading_alone_knows_none_of_them(monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    monkeypatch.setattr(restricted_shell, "KNOWN", json.loads(json.dumps(reading())))
    with pytest.raises(restricted_shell.Refused, match="may only look at this node"):
        restricted_shell.known(script)


@pytest.mark.parametrize(("name", "script"), SCRIPTS.values(), ids=SCRIPTS)
def test_a_line_more_is_refused_wherever_it_stands(name: str, script: str) -> None:
    lines = script.split("\n")
    for at in range(0, len(lines) + 1, max(1, len(lines) // 12)):
        with pytest.raises(restricted_shell.Refused):
            restricted_shell.known("\n".join([*lines[:at], "id", *lines[at:]]))


def test_what_runs_left_is_read_and_planned() -> None:
    assert restricted_shell.known(Runs().command())[0] == "Runs"
    assert restricted_shell.known(UndoPlan().command(RUN))[0] == "a plan of the way back"


Change = Callable[[str], str]


def replaced(old: str, new: str, count: int = -1) -> Change:
    def changed(script: str) -> str:
        assert old in script, old
        return script.replace(old, new, count)

    return changed


HOSTILE: dict[str, tuple[str, Change]] = {
    "another folder": ("files", replaced(f"/var/lib/dnsmend/{RUN}", "/etc")),
    "a way up": ("files", replaced(f"/var/lib/dnsmend/{RUN}/dnsmasq", f"/var/lib/dnsmend/{RUN}/../../../../etc")),
    "another unit": ("files", replaced("dnsmasq.service", "ssh.service")),
    "another program as the test": ("files", replaced("exec /usr/sbin/dnsmasq ", "exec /usr/bin/dnsmasq2 ")),
    "a command behind the test": ("files", replaced("--test\n", "--test; id\n")),
    "one file checked, another one written": ("files", replaced("put 0 /etc/dnsmasq.d/k8s.conf", "put 0 /etc/shadow")),
    "a file that is not kept": (
        "files",
        replaced('cp --preserve=all /etc/dnsmasq.d/k8s.conf "$dir/before/0"\n', ""),
    ),
    "another file kept": (
        "files",
        replaced("cp --preserve=all /etc/dnsmasq.d/k8s.conf", "cp --preserve=all /etc/shadow"),
    ),
    "a file's number": ("files", replaced("put 1 /etc/dnsmasq.d/dnsmend.conf", "put 0 /etc/dnsmasq.d/dnsmend.conf")),
    "another folder copied": ("files", replaced("cp -aH /etc/dnsmasq.d", "cp -aH /root")),
    "another folder covered": ("files", replaced('stage-1" /etc/dnsmasq.d', 'stage-1" /usr/sbin')),
    "a file covered": ("files", replaced('after/0" /etc/dnsmasq.d/k8s.conf', 'after/0" /etc/passwd')),
    "a command in the reason": ("files", replaced("'\"'\"'", "'; id; '", 1)),
    "another alternative": ("alternatives", replaced("/usr/sbin/iptables-legacy", "/tmp/iptables-legacy")),
    "another group": ("alternatives", replaced("--set iptables ", "--set editor ")),
    "everybody's chains": ("rules", replaced("chain ~ /^KUBE-(SVC", "chain ~ /(SVC")),
    "another tool": ("rules", replaced("iptables-nft-save", "cat-save")),
    "another setting": ("settings", replaced("net.ipv4.vs.conntrack", "kernel.core_pattern")),
    "another value": ("settings", replaced("net.ipv4.vs.conntrack=1", "'net.ipv4.vs.conntrack=|id'")),
    "another file of settings": ("settings", replaced(FILE, "/etc/passwd")),
    "another service": ("a unit", replaced("kube-proxy.service", "ssh.service")),
    "another command to take it back": ("a unit", replaced("'systemctl restart", "'id; systemctl restart")),
    "every pod": ("a pod", replaced("9f" * 32, "$(crictl pods -q)")),
    "everybody's flows": ("flows", replaced("--orig-dst 10.32.0.10 ", "")),
    "a command among flows": ("flows", replaced(" && ", " && id && ")),
    "a process that is an option": ("the kubelet", replaced(" - 812", " - -1")),
    "another lock": ("the lock", replaced("/run/dnsmend/lock", "/etc/passwd")),
    "another verb": ("the lock", replaced(" - take", " - 'take;id'")),
    "a run that is none": ("proven", replaced(RUN, "../../../tmp")),
}


@pytest.mark.parametrize(("which", "how"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_like_a_fix_is_refused(which: str, how: Change) -> None:
    script = SCRIPTS[which][1]
    assert how(script) != script
    with pytest.raises(restricted_shell.Refused):
        restricted_shell.known(how(script))


@pytest.mark.parametrize("words", ["all 'it'\"'\"'s done'", "each 'not proven'", "all done"])
def test_the_way_back_is_known(words: str) -> None:
    script = f"sh /var/lib/dnsmend/{RUN}/run.sh {words}"
    assert restricted_shell.known(script)[0] == "the way back"
    for other in (script + ";id", script.replace("run.sh", "x.sh"), script.replace(RUN, ".."), script + " more"):
        with pytest.raises(restricted_shell.Refused):
            restricted_shell.known(other)


@pytest.fixture
def _of_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of EDITS as they would be on a node, and its dnsmasq."""
    texts = {edit.path: edit.before for edit in EDITS if edit.before is not None}
    monkeypatch.setattr(Path, "read_bytes", lambda path: texts[str(path)].encode())
    monkeypatch.setattr(restricted_shell, "_check_owner", lambda path: None)
    monkeypatch.setattr(restricted_shell, "_check_command", lambda command, unit: None)


def check(script: str, payload: str) -> None:
    restricted_shell.check_change(restricted_shell.known(script)[1], payload.encode())


@pytest.mark.usefixtures("_of_root")
def test_a_change_of_interfaces_is_let_through() -> None:
    check(dnsmasq.script(change(), RUN, 180), dnsmasq.payload(change(), RUN))
    check(dnsmasq.script(change(EDITS[0]), RUN, 180), dnsmasq.payload(change(EDITS[0]), RUN))


BEFORE = EDITS[0].before or ""
TEXTS = {
    "a script": "conf-script=/tmp/x\n",
    "a log file": f"{BEFORE}log-facility=/etc/shadow\n",
    "a user": f"user=root\n{BEFORE}",
    "a server": f"{BEFORE}server=6.6.6.6\n",
    "an include": f"{BEFORE}conf-file=/tmp/x\n",
    "words behind": "except-interface=lo,$(id)\n",
    "two lines in one": "interface=lo\rconf-script=/tmp/x\n",
}


@pytest.mark.usefixtures("_of_root")
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_change_of_anything_else_is_refused(text: str) -> None:
    for edit in (Edit(EDITS[0].path, EDITS[0].before, text), Edit(EDITS[1].path, None, text)):
        with pytest.raises(restricted_shell.Refused, match="more than interfaces"):
            check(dnsmasq.script(change(edit), RUN, 180), dnsmasq.payload(change(edit), RUN))


@pytest.mark.usefixtures("_of_root")
def test_a_line_that_is_no_ones_interface_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"server=1.1.1.1\n")
    edit = Edit(EDITS[0].path, "server=1.1.1.1\n", "#dnsmend: server=1.1.1.1\n")
    with pytest.raises(restricted_shell.Refused, match="more than interfaces: server"):
        check(dnsmasq.script(change(edit), RUN, 180), dnsmasq.payload(change(edit), RUN))


@pytest.mark.usefixtures("_of_root")
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/etc/hostapd.conf", "no file of dnsmasq"),
        ("/home/x/dnsmasq.conf", "no file of dnsmasq"),
        ("/etc/dnsmasq.d/../shadow", "no file of dnsmasq"),
        ("/etc/init.d/dnsmasq", "no file of dnsmasq"),
        ("/etc/systemd/system/dnsmasq.service.d/x.conf", "no file of dnsmasq"),
        ("/etc/dnsmasq.d/other.conf", "not the name of a file"),
    ],
)
def test_another_file_is_refused(path: str, why: str) -> None:
    edit = Edit(path, None if "other" in path else BEFORE, BEFORE)
    with pytest.raises(restricted_shell.Refused, match=why):
        check(dnsmasq.script(change(edit), RUN, 180), dnsmasq.payload(change(edit), RUN))


OPTIONS = 'export DNSMASQ_OPTS="--no-hosts -I cilium_host --server=1.1.1.1"  # ours'
DEFAULTS = {
    "fewer words": (f"DNSMASQ_OPTS='--no-hosts --server=1.1.1.1'  #dnsmend: was {OPTIONS}", True),
    "one word": (f"DNSMASQ_OPTS=--no-hosts  #dnsmend: was {OPTIONS}", True),
    "no word": (f"#dnsmend: {OPTIONS}", True),
    "another word": (f"DNSMASQ_OPTS='--no-hosts --conf-script=/tmp/x'  #dnsmend: was {OPTIONS}", False),
    "another order": (f"DNSMASQ_OPTS='-I --no-hosts'  #dnsmend: was {OPTIONS}", False),
    "another variable": (f"DNSMASQ_USER='--no-hosts'  #dnsmend: was {OPTIONS}", False),
    "another comment": ("DNSMASQ_OPTS='--no-hosts'  #dnsmend: was --conf-script=/tmp/x", False),
    "a comment of their own": ("# --conf-script=/tmp/x", False),
    "a command": (f"DNSMASQ_OPTS=--no-hosts;id  #dnsmend: was {OPTIONS}", False),
    "a command in quotes": (f"DNSMASQ_OPTS='--no-hosts';id  #dnsmend: was {OPTIONS}", False),
    "an option of the other kind of file": ("interface=lo", False),
    "a line more": (f"{OPTIONS}\nid", False),
    "nothing": ("", False),
}


@pytest.mark.usefixtures("_of_root")
@pytest.mark.parametrize(("line", "allowed"), DEFAULTS.values(), ids=DEFAULTS)
def test_only_words_go_from_what_a_shell_reads(monkeypatch: pytest.MonkeyPatch, line: str, allowed: bool) -> None:
    before = f"# Defaults\n{OPTIONS}\nENABLED=1\n"
    monkeypatch.setattr(Path, "read_bytes", lambda path: before.encode())
    edit = Edit("/etc/default/dnsmasq", before, f"# Defaults\n{line}\nENABLED=1\n")
    script, payload = dnsmasq.script(change(edit), RUN, 180), dnsmasq.payload(change(edit), RUN)
    if allowed:
        check(script, payload)
    else:
        with pytest.raises(restricted_shell.Refused, match="more than interfaces"):
            check(script, payload)


def test_what_the_edits_make_is_what_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """`models.dnsmasq_edits` writes these lines: the two have to agree."""
    text = f"{OPTIONS}\n"
    assert drop_default(text, ["-I", "cilium_host"]).startswith("DNSMASQ_OPTS='--no-hosts --server=1.1.1.1'  #dnsmend")
    for words in (["-I", "cilium_host"], ["--no-hosts"]):
        made = drop_default(text, words)
        assert all(map(restricted_shell._is_less, text.split("\n"), made.split("\n")))


@pytest.mark.usefixtures("_of_root")
def test_another_way_back_is_refused() -> None:
    script, payload = dnsmasq.script(change(), RUN, 180), dnsmasq.payload(change(), RUN)
    for other in (
        dnsmasq.payload(change(), "20261122T080000Z-ffff"),
        dnsmasq.payload(change(EDITS[1], EDITS[0]), RUN),
        payload + "7 aWQK\n",
        payload.replace("undo ", "undo aWQK", 1),
        payload.split("\n", 1)[1],
        payload + payload,
        "",
    ):
        with pytest.raises((restricted_shell.Refused, ValueError)):
            check(script, other)

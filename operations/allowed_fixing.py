"""What an account may run as root that may also fix a node: every script that fix_dns.py and undo.py send.

The holes are what a template's expressions may give. A template that gets another one is not allowed before it is named
here. What installs something (prevent.py, privileges.py) is not among them: that takes root.
"""

from __future__ import annotations

import re
from typing import cast

from pyinfra.api.command import QuoteString, StringCommand

from facts.kernel import LegacyPreflight
from facts.kube_proxy_answer import Proxy
from facts.netfilter_chains import BARE, HASHED, HINTS, OWN_COMMENT, OWNED
from facts.runs import FOLDER
from models import kernel_settings
from operations import conntrack, kube_proxy, kubelet, lock, runs, sysctl
from operations.allowed_reading import ADDRESS, QUOTED, RUN, Known, digest, reading
from operations.script_patterns import Hole, Tree, of_template, of_text
from operations.scripts import TEMPLATES

_STEP = r"[a-z][a-z0-9-]{0,40}"
_TIMER = f"dnsmend-undo-{RUN}-{_STEP}"
_PATH = r"/[A-Za-z0-9@%+=:,./_-]+"
_UNIT = r"dnsmasq(?:@[A-Za-z0-9:_.-]+)?\.service"
_IPTABLES = r"ip6?tables(?:-legacy|-nft)?"
_ALTERNATIVE = r"/usr/s?bin/(?:xtables-(?:legacy|nft)-multi|ip6?tables-(?:legacy|nft))"
_BACK = rf"--auto {_IPTABLES}|--set {_IPTABLES} {_ALTERNATIVE}"
_NUMBER = r"[0-9]{1,10}"
_SETTING = "|".join(
    re.escape(name)
    for name in (*(f"net.ipv4.vs.{each}" for each in kernel_settings.IPVS), kernel_settings.CONNTRACK_MAXIMUM)
)


def _owned() -> str:
    """Whose chains are taken out: by one of our two lists, and no other."""
    lists = ([HASHED, OWNED], [f"^({'|'.join(HINTS)})$"])
    awk = TEMPLATES.filters["awk_match"]
    return "|".join(re.escape(" || ".join(awk(each, "chain") for each in patterns)) for patterns in lists)


#: By the expression as it stands in a template.
_HOLES = {
    # A step, and its run.
    "run": Hole("run", RUN),
    "run | quote": Hole("run", RUN),
    "run_dir": Hole("run_dir", f"{FOLDER}/{RUN}"),
    "run_dir | quote": Hole("run_dir", f"{FOLDER}/{RUN}"),
    "step": Hole("step", _STEP),
    "dir | quote": Hole("dir", f"{FOLDER}/{RUN}/{_STEP}"),
    "folder": Hole("", re.escape(FOLDER)),
    "lock": Hole("", re.escape(runs.NODE_LOCK)),
    "keep": Hole("", _NUMBER),
    "wave": Hole("", _NUMBER),
    "timer | quote": Hole("timer", _TIMER),
    "boot_unit": Hole("", rf"dnsmend-undo-{RUN}\.service"),
    "undo_after": Hole("", r"[0-9]{1,5}"),
    '("by " ~ by) | quote': Hole("", QUOTED),
    '("what " ~ about) | quote': Hole("", QUOTED),
    # Files of dnsmasq.
    "unit": Hole("unit", _UNIT),
    "unit | quote": Hole("unit", _UNIT),
    "test": Hole("test", rf"/(?:usr/)?(?:local/)?s?bin/dnsmasq(?: {QUOTED})* --test"),
    "edit.number": Hole("edit.number", r"[0-9]"),
    "edit.path | quote": Hole("edit.path", _PATH),
    "edit.digest": Hole("edit.digest", r"new|[0-9a-f]{64}"),
    "edit.parent | quote": Hole("edit.parent", _PATH),
    "edit.name | quote": Hole("edit.name", r"[A-Za-z0-9@%+=:,._-]+"),
    'edits | map(attribute="path") | join(" ") | quote': Hole("", QUOTED),
    '"restart" if was_active else "stop"': Hole("", "restart|stop"),
    # Alternatives.
    "group.name": Hole("", _IPTABLES),
    "group.was | quote": Hole("", _ALTERNATIVE),
    "group.path | quote": Hole("", _ALTERNATIVE),
    "back": Hole("", _BACK),
    "back | quote": Hole("", rf"'(?:{_BACK})'"),
    'commands | join(" ")': Hole("", rf"{_IPTABLES}(?: {_IPTABLES})*"),
    "word": Hole("", "nf_tables|legacy"),
    # Stale rules.
    "command": Hole("", _IPTABLES),
    'owned | map("awk_match", "chain") | join(" || ")': Hole("", _owned()),
    "own_comment": Hole("", re.escape(OWN_COMMENT)),
    "bare": Hole("", re.escape(BARE)),
    # Kernel settings.
    "file": Hole("", re.escape(sysctl.FILE)),
    "name": Hole("", _SETTING),
    "value": Hole("", _NUMBER),
    "value | quote": Hole("", _NUMBER),
    "now[name] | quote": Hole("", _NUMBER),
    '("^-" ~ name | replace(".", "\\\\.") ~ " *=") | quote': Hole("", r"'\^-[a-z0-9_\\.]+ \*='"),
    '("-" ~ name ~ " = " ~ value) | quote': Hole("", rf"'-(?:{_SETTING}) = {_NUMBER}'"),
    '(name ~ "=" ~ value) | quote': Hole("", rf"(?:{_SETTING})={_NUMBER}"),
    '(name ~ "=" ~ now[name]) | quote': Hole("", rf"(?:{_SETTING})={_NUMBER}"),
}

#: By the name between the at signs of a mark.
_MARKS = {
    "run": Hole("run", RUN),
    "other": Hole("", RUN),
    "by": Hole("", r"[A-Za-z0-9@%+=:,./_ -]*"),
    "verb": Hole("", "take|renew|release"),
    "how": Hole("", "all|each"),
    "words": Hole("", QUOTED),
    "unit": Hole("unit", r"(?:kube-proxy|k3s|k3s-agent|snap\.microk8s[a-z.-]*|rke2-(?:agent|server))\.service"),
    "sandbox": Hole("sandbox", r"[0-9a-f]{64}"),
    "pod": Hole("", r"[a-z0-9][a-z0-9.-]{0,252}"),
    "namespace": Hole("", r"[a-z0-9][a-z0-9-]{0,62}"),
    "family": Hole("", "ipv[46]"),
    "address": Hole("", ADDRESS),
    "number": Hole("", _NUMBER),
}


def fixing() -> Known:
    """What a fix and its way back take, and all of reading."""
    known = reading()
    known["may"] = "look at this node and fix its DNS"
    known["digests"][digest(LegacyPreflight().command())] = "LegacyPreflight"
    for name in ("change-files", "set-alternatives", "remove-rules", "set-sysctls"):
        known["trees"][name] = of_template(f"{name}.sh.j2", _HOLES)
    known["inside"]["undo"] = of_template("undo-files.sh.j2", _HOLES)
    known["trees"] |= {
        "the lock": _of(lock.Answer().command("@verb@", "@run@"), by=True),
        "the lock, to undo": _of(lock.Answer().command("@verb@", "@run@", "@other@"), by=True),
        "kube-proxy's unit": of_text(_restart({"form": "systemd", "unit": "@unit@"}), _MARKS),
        "kube-proxy's pod": of_text(_restart({"form": "DaemonSet", "pod": _POD}), _MARKS),
        "the kubelet": _of(kubelet.restart_command("@number@")),
        "DNS flows": [*_forget(), {"each": "addresses", "body": [" && ", *_forget()]}],
        "proven": _of(next(runs.confirm("@run@"))),
        "the way back": _of(
            StringCommand("sh", QuoteString(f"{FOLDER}/@run@/run.sh"), "@how@", QuoteString("@words@"))
        ),
    }
    return known


_POD = {"name": "@pod@", "namespace": "@namespace@", "sandbox": "@sandbox@"}


def _of(command: StringCommand, by: bool = False) -> Tree:
    text = str(command.get_raw_value())
    # Who runs it differs from controller to controller.
    return of_text(text.replace(runs.BY, "@by@") if by else text, _MARKS)


def _restart(proxy: dict[str, object]) -> str:
    given = cast(Proxy, {"pod": None, **proxy})
    command, again = kube_proxy.restart_command(given), kube_proxy.again_command(given)
    return kube_proxy.locked(command, "", "", "@run@", again)


def _forget() -> Tree:
    command = conntrack.delete_command("192.0.2.1")
    return of_text(command.replace("ipv4", "@family@").replace("192.0.2.1", "@address@"), _MARKS)

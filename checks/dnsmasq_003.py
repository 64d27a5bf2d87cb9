"""dnsmasq runs, and its configuration lets it start.

In wildcard mode dnsmasq cannot start beside systemd-resolved's stub, bind-interfaces with bind-dynamic is refused at
the start (dnsmasq --test does not see it), and bind-interfaces wants every named interface and address to be there.
"""

from __future__ import annotations

from checks.case import Case
from checks.finding import Finding, Status
from models import node

ID = "DNSMASQ-003"
TITLE = "dnsmasq runs, and its configuration lets it start"
OPERATION = "dnsmasq.interface_policy"


def check(case: Case) -> list[Finding]:
    """One finding per address that serves DNS on this node."""
    if reason := case.unread():
        return [case.finding(ID, TITLE, Status.UNKNOWN, reason)]
    if not case.served:
        return [case.finding(ID, TITLE, Status.SKIP, "no address of this node serves DNS through its own dnsmasq")]
    found: list[Finding] = []
    for vip, instance in case.served:
        if instance is None:
            found.append(case.finding(ID, TITLE, Status.FAIL, f"no dnsmasq of this node listens on {vip}"))
            continue
        which = instance["unit"] or f"dnsmasq, pid {instance['pid']}"
        state = [
            f"{unit['unit']}: {unit['active']} ({unit['sub']}), {unit['result']}"
            for unit in case.snapshot["units"]["value"]
            if unit["unit"] == instance["unit"]
        ]
        if error := instance["error"]:
            running = "runs" if instance["pid"] else "does not run"
            certain = error.get("certain")
            status = Status.FAIL if not instance["pid"] else Status.WARN if certain else Status.UNKNOWN
            means = "its configuration cannot be read" if certain else "what it reads is not all known"
            sentence = f"{which} {running}, and {means}: see DNSMASQ-002"
            found.append(case.finding(ID, TITLE, status, sentence, state))
            continue
        operation, remark = OPERATION, ""
        if node.foreign(instance):
            operation, remark = "", f"; dns_vips names {vip}, though this dnsmasq is another program's"
        start = case.forecast(vip, instance).start
        if not start.started:
            status = Status.WARN if instance["pid"] else Status.FAIL
            running = "runs, and would not start again" if instance["pid"] else "does not run"
            found.append(
                case.finding(ID, TITLE, status, f"{which} {running}: {start.because}{remark}", state, operation)
            )
        elif not instance["pid"]:
            sentence = f"{which} does not run, though nothing in its configuration keeps it from starting"
            found.append(case.finding(ID, TITLE, Status.FAIL, sentence, state))
        else:
            found.append(case.finding(ID, TITLE, Status.PASS, f"{which} runs (pid {instance['pid']}){remark}", state))
    return found

"""dnsmasq answers what arrives from pods.

dnsmasq looks at the interface on which a question arrives, not only at the address it is for. A question from a pod
arrives on cilium_host (or lxc*, cni0 ...): with except-interface=cilium_*, interface=bond0, listen-address=VIP or
local-service it is dropped without a word in any log, while ICMP and bare-metal clients are fine.

Judged twice: by the model, which says what the configuration on disk does and because of which line, and by probes from
the pods. Where the two disagree, it says so.
"""

from __future__ import annotations

from checks.case import Case
from checks.finding import Finding, Status
from models import node
from models.dnsmasq import Outcome, Verdict
from models.listed import listed
from models.needs import Need
from probes.count import asked, lost, summary, unknown
from probes.denied import denied
from probes.probe import Result
from probes.questions import own_name

ID = "DNSMASQ-001"
TITLE = "dnsmasq answers what arrives from pods"
OPERATION = "dnsmasq.interface_policy"


def check(case: Case) -> list[Finding]:
    """One finding per address that serves DNS on this node."""
    if reason := case.unread():
        return [case.finding(ID, TITLE, Status.UNKNOWN, reason)]
    if not case.served:
        return [case.finding(ID, TITLE, Status.SKIP, "no address of this node serves DNS through its own dnsmasq")]
    return [_address(case, vip) for vip, _ in case.served]


def _address(case: Case, vip: str) -> Finding:
    instance = dict(case.served)[vip]
    if instance is None:
        return case.finding(ID, TITLE, Status.SKIP, f"no dnsmasq of this node owns {vip}: see DNSMASQ-003")
    if instance["error"]:
        return case.finding(ID, TITLE, Status.UNKNOWN, f"{instance['error']['message']}: see DNSMASQ-002")
    forecast = case.forecast(vip, instance)
    if not forecast.start.started:
        return case.finding(
            ID, TITLE, Status.UNKNOWN, "dnsmasq would not start with its configuration: see DNSMASQ-003"
        )
    dropped = forecast.lost()
    seen = [result for result in case.results if result["probe"]["destination"] == vip and _from_pod(result)]
    probed = [result for result in seen if own_name(result["probe"]) and unknown(result) < len(result["tries"])]
    seen.sort(key=lambda result: result["probe"]["protocol"] == "icmp")
    evidence = [f"{asked(result)}: {summary(result)}" for result in seen]
    if dropped:
        return _dropped(case, vip, dropped, probed, evidence)
    if not probed:
        why = "no pod on this node could be asked from" if not seen else summary(seen[0])
        return case.finding(ID, TITLE, Status.UNKNOWN, f"the configuration answers pods at {vip}, but {why}", evidence)
    kept_out = denied(seen, {vip: node.asking(case.snapshot, vip)})
    losing = [result for result in probed if lost(result) and result not in case.strays and result not in kept_out]
    if losing:
        worst = max(losing, key=lost)
        return case.finding(
            ID,
            TITLE,
            Status.FAIL,
            f"{asked(worst)}: {summary(worst)}, though dnsmasq's configuration answers pods: something before dnsmasq"
            " drops the question or its answer, or dnsmasq runs with an older configuration (DNSMASQ-004)",
            evidence,
        )
    sentence = f"pods are answered at {vip} over UDP and TCP"
    if kept_out:
        sources = sorted({result["probe"]["source"]["name"] for result in kept_out})
        sentence += (
            f"; {listed(sources, 3)}: all lost, unlike others. It asks elsewhere by itself: a NetworkPolicy, it seems"
        )
    if any(lost(result) for result in probed if result not in kept_out):
        sentence += "; the tries that were lost at first were not lost again when they were asked once more"
    return case.finding(ID, TITLE, Status.PASS, sentence, evidence)


def _dropped(
    case: Case, vip: str, dropped: list[tuple[Need, Verdict]], probed: list[Result], evidence: list[str]
) -> Finding:
    need, verdict = dropped[0]
    instance = dict(case.served)[vip]
    operation = "" if instance and node.foreign(instance) else OPERATION
    outcomes = ", ".join(f"{need.who} {need.query.protocol.upper()}: {verdict.outcome}" for need, verdict in dropped)
    evidence = [f"model: {outcomes}", f"model: {verdict.because}", *evidence, *_disagreements(dropped, probed)]
    if probed and not any(lost(result) for result in probed):
        return case.finding(
            ID,
            TITLE,
            Status.WARN,
            f"pods are answered at {vip} now, but the configuration on disk will cut off {need.who} at the next"
            f" restart: {verdict.because}",
            evidence,
            operation,
        )
    return case.finding(
        ID, TITLE, Status.FAIL, f"{need.who} gets no answer at {vip}: {verdict.because}", evidence, operation
    )


def _disagreements(dropped: list[tuple[Need, Verdict]], probed: list[Result]) -> list[str]:
    """Where a probe is lost in another way than dnsmasq would lose it: something else is at work as well."""
    said: list[str] = []
    for need, verdict in dropped:
        for result in probed:
            probe = result["probe"]
            same = probe["source"]["address"] == str(need.query.source) and probe["protocol"] == need.query.protocol
            expected = "refused" if verdict.outcome is Outcome.REFUSED else str(verdict.outcome)
            usual = {expected, "answered", "not sent"}
            if expected == "refused" and probe["protocol"] == "udp":
                # The kernel limits how many ICMP port-unreachables it sends (icmp_ratelimit in icmp(7)).
                usual.add("timeout")
            others = {attempt["outcome"] for attempt in result["tries"]} - usual
            if same and others:
                said.append(
                    f"{asked(result)}: {', '.join(sorted(others))}, where dnsmasq alone would give {expected}:"
                    " something before it drops packets as well"
                )
    return said


def _from_pod(result: Result) -> bool:
    return result["probe"]["source"]["name"] != "host"

"""Certificates of new nodes: made and shown, and in a run that changes nodes, made again after the change."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

from pyinfra import host
from pyinfra.api.command import FunctionCommand, StringCommand
from pyinfra.api.host import Host
from pyinfra.api.operation import OperationMeta, operation

from checks import dnsmasq_001, onboard_007
from checks.diagnosis import Diagnosis
from checks.finding import Finding, Status
from deploys import onboarding, telling
from deploys import policy as policies
from deploys.onboarding import Onboarding
from facts import snapshot
from models.refused import Refused
from operations import dnsmasq, runs
from operations.wave import Wave, refusal
from reports import certificate, terminal


def look(plan: Onboarding, reports: Mapping[str, str]) -> bool:
    """Judge all new nodes at once, show it and write the reports. Whether every one may join."""
    terminal.progress(f"asking from {', '.join(one.name for one in plan.new) or 'no node'}")
    found = onboarding.judged(plan.new, plan.missing) if plan.new else onboarding.unreached(plan.missing)
    certificate.show(found)
    telling.write(found, reports)
    return not found["verdicts"]


@operation()
def answer_pods(undo_after: int = 180, run: str = runs.RUN) -> Generator[StringCommand, None, None]:
    """
    Make the node's dnsmasq answer pods, those that do not run on it yet included.

    + undo_after: seconds after which the node takes the change back unless `judge_again` has confirmed it
    + run: the run's id, under which the old files are kept on the node

    As `operations.dnsmasq.interface_policy`, which knows the pods that are there.

    **Example:**

    .. code:: python

        certify.answer_pods(name="dnsmasq will answer pods")
    """
    if host.state.is_executing:
        snapshot.forget(host)
    policy = policies.of(host)
    of_all = onboarding.fleet(host.inventory)
    cluster = onboarding.others(host.name, of_all, onboarding.newcomers(host.state, policy))
    try:
        found = onboarding.edits(host, of_all, cluster, policy)
    except Refused as reason:
        yield refusal(f"refused: {reason}")
        return
    for change in found:
        if host.state.config.DIFF and not host.state.is_executing:
            dnsmasq.show(host, change)
        yield StringCommand(dnsmasq.script(change, run, undo_after), _stdin=dnsmasq.payload(change, run))
        snapshot.forget(host)
        runs.record(run, host.name, "changed", step=change.step, because=change.plan.because)


@operation()
def judge_again(
    wave: Wave,
    plan: Onboarding,
    changes: Sequence[OperationMeta],
    reports: Mapping[str, str],
    run: str = runs.RUN,
) -> Generator[StringCommand | FunctionCommand, None, None]:
    """
    Judge the node as it is now; keep what was changed if DNS is answered, and let the wave fail if it is not.

    + wave: fails for this host where DNS is not answered after a change
    + plan: the run's onboarding, which keeps the certificate
    + changes: the operations that are to be proven
    + reports: files to write the certificates of all nodes to, by format
    + run: the run whose change is confirmed

    In the prepare phase, and in a dry run, nothing is asked.

    **Example:**

    .. code:: python

        certify.judge_again(name="may it join", wave=wave, plan=plan, changes=[chosen], reports={})
    """
    if not host.state.is_executing:
        return
    # `host` is pyinfra's word for whoever runs, which says nothing in the greenlets that ask.
    found = _judged(host.inventory.get_host(host.name))
    answers, lost = _answers(found)
    if lost:
        # A busy node may lose a try or two to its own load: it is asked once more.
        host.log(f"asked again: {lost[0]}")
        found = _judged(host.inventory.get_host(host.name))
        answers, lost = _answers(found)
    plan.certificates[host.name] = found
    certificate.show(found)
    telling.write(_together([*plan.certificates.values(), onboarding.unreached(plan.missing)]), reports)
    runs.record(run, host.name, "judged", joins=not found["verdicts"], lost=lost)
    if not any(change.did_change() for change in changes):
        return
    if lost or not answers:
        wave.fail(host.name, f"not proven: {lost[0] if lost else 'the node could not be read'}")
        yield FunctionCommand(host.log, [wave.failures[host.name]], {})
        return
    yield from runs.confirm(run)


@operation()
def stand_by(plan: Onboarding) -> Generator[StringCommand, None, None]:
    """
    Fail for a node that must not join, once all nodes have their certificates.

    + plan: the run's onboarding

    **Example:**

    .. code:: python

        certify.stand_by(name="Refused nodes fail", plan=plan)
    """
    if not host.state.is_executing:
        return
    found = plan.certificates.get(host.name)
    if host.name in plan.refused:
        yield refusal(f"could not be brought to the policy: {plan.refused[host.name]}")
    elif found is None:
        yield refusal("was not judged: a wave before it failed")
    elif found["verdicts"]:
        yield refusal(found["verdicts"][0]["sentence"])
    else:
        host.noop("it may join")


def _judged(node: Host) -> Diagnosis:
    snapshot.forget(node)
    return onboarding.judged([node])


def _answers(found: Diagnosis) -> tuple[list[Finding], list[str]]:
    """The findings that say whether DNS is answered, and the sentences of those that do not."""
    answers = [each for each in found["findings"] if each["check"] in (onboard_007.ID, dnsmasq_001.ID)]
    return answers, [each["sentence"] for each in answers if each["status"] in (Status.FAIL, Status.UNKNOWN)]


def _together(found: Sequence[Diagnosis]) -> Diagnosis:
    """The certificates of several nodes as one report."""
    return {
        "format": 1,
        "started": min(each["started"] for each in found),
        "finished": max(each["finished"] for each in found),
        "nodes": {name: why for each in found for name, why in each["nodes"].items()},
        "hops": [hop for each in found for hop in each["hops"]],
        "findings": [finding for each in found for finding in each["findings"]],
        "verdicts": [verdict for each in found for verdict in each["verdicts"]],
        "timeline": [],
        "unseen": [sentence for each in found for sentence in each["unseen"]],
    }

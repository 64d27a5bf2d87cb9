"""Say of each new node whether it may join the cluster, with a certificate; bring it to the policy first, if asked to.

    pyinfra -y inventory deploys/onboard.py --limit node-7            # looks and asks, changes nothing
    pyinfra -y inventory deploys/onboard.py                           # the nodes of the inventory's group `new`
    pyinfra -y @local deploys/onboard.py --data iptables_backend=nft  # on the node itself, before kubeadm join
    pyinfra -y inventory deploys/onboard.py --data json=FILE --data junit=FILE
    pyinfra inventory deploys/onboard.py --data enforce=true -y       # to the policy, wave by wave, then judged again

Exit code: 0 every new node may join; 1 one must not, could not be reached, or something is unknown. See
docs/onboarding.md.
"""

import sys

from pyinfra import host, inventory, state
from pyinfra.api.exceptions import PyinfraError

from deploys import certify, onboarding, telling
from deploys import policy as policies
from deploys.exits import Exit
from facts import snapshot
from operations import alternatives, lock, netfilter, runs, sysctl
from operations.wave import gate, one_batch

policy = policies.of(host)
reports = telling.wanted(host)
plan = onboarding.of(state)

if not policies.switch(host, "enforce"):
    # pyinfra runs this file once per host: the first one speaks for all.
    if host.name == snapshot.active(inventory)[0].name:
        joins = certify.look(plan, reports)
        sys.exit(Exit.WELL if joins else Exit.NOT_WELL)
else:
    if "-" in reports.values():
        raise PyinfraError("--data enforce=true: a report needs a file of its own, it is written once per node")
    if host.name in plan.refused:
        host.log(f"cannot be brought to the policy: {plan.refused[host.name]}")
    steps = plan.steps.get(host.name)
    pause = policy.undo_after
    together = one_batch(state)
    changing = [name for name, needed in plan.steps.items() if needed]
    lock.take(
        name="One run at a time",
        nodes=changing,
        waves=plan.waves,
        **policies.lock_arguments(host),
    )
    # host.loop gives each wave operations of its own: pyinfra knows an operation by its line and its turn in the loop.
    for wave in host.loop(plan.waves):
        if host.name in wave and steps is not None:
            changed = []
            if steps.settings:
                changed += [
                    sysctl.settings(
                        name=f"{wave}: kernel settings",
                        wanted=steps.settings,
                        undo_after=pause,
                        _parallel=together,
                        _if=wave.is_open,
                    )
                ]
            if steps.backend:
                changed += [
                    alternatives.backend(
                        name=f"{wave}: iptables is {steps.backend}",
                        target=steps.backend,
                        undo_after=pause,
                        _parallel=together,
                        _if=wave.is_open,
                    )
                ]
            if steps.losing:
                changed += [
                    netfilter.remove_stale(
                        name=f"{wave}: nothing of an earlier cluster in {steps.losing}",
                        losing=steps.losing,
                        undo_after=pause,
                        _parallel=together,
                        _if=wave.is_open,
                    )
                ]
            if steps.dnsmasq:
                changed += [
                    certify.answer_pods(
                        name=f"{wave}: dnsmasq will answer pods", undo_after=pause, _parallel=together, _if=wave.is_open
                    )
                ]
            certify.judge_again(
                name=f"{wave}: may it join",
                wave=wave,
                plan=plan,
                changes=changed,
                reports=reports,
                _parallel=together,
                _if=wave.is_open,
            )
            runs.undo(
                name=f"{wave}: take back what is not proven",
                run=runs.RUN,
                reason="not proven",
                whole=False,
                _parallel=together,
                _if=wave.is_unproven,
            )
        gate(name=f"{wave}: gate", wave=wave)
    lock.let_go(name="Free for other runs", nodes=changing)
    if steps is not None:
        certify.stand_by(name="Refused nodes fail", plan=plan)

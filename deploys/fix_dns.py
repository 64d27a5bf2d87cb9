"""Make dnsmasq answer pods, wave by wave: change, prove, take back what is not proven, and stop there.

pyinfra inventory deploys/fix_dns.py --dry --diff    # what would change, and why
pyinfra inventory deploys/fix_dns.py -y
pyinfra -y inventory deploys/undo.py --data run=RUN  # the way back
"""

from pyinfra import host, state

from deploys import policy as policies
from deploys import rollout
from operations import dnsmasq, runs, verify
from operations.wave import gate

policy = policies.of(host)

# host.loop gives each wave operations of its own: pyinfra knows an operation by its line and its turn in the loop.
for wave in host.loop(rollout.of(state).waves):
    if host.name in wave:
        listening = dnsmasq.interface_policy(
            name=f"{wave}: dnsmasq answers pods, LAN and host",
            **policies.dnsmasq_arguments(policy),
            undo_after=policy.undo_after,
            _if=wave.is_open,
        )
        verify.dns_answers(
            name=f"{wave}: prove it from the pods",
            wave=wave,
            change=listening,
            probe_name=policy.probe_name,
            vips=policy.dns_vips,
            tries=policy.probe_tries,
            deadline=policy.probe_deadline,
            pods=policy.probe_pods,
            _if=wave.is_open,
        )
        runs.undo(name=f"{wave}: take back what is not proven", run=runs.RUN, reason="not proven", _if=wave.is_unproven)
    gate(name=f"{wave}: gate", wave=wave)

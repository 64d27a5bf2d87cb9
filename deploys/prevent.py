"""Let each node watch its own DNS and iptables, wave by wave; or take those guards away.

    pyinfra inventory deploys/prevent.py --dry                  # what would be installed
    pyinfra inventory deploys/prevent.py -y
    pyinfra inventory deploys/prevent.py -y --data remove=true  # what was installed, and nothing else

What they ask is what the node serves when they are installed: run it again after a change (a second run changes nothing
where nothing has changed). See docs/guards.md.
"""

from pyinfra import host, state

from deploys import guarding
from deploys import policy as policies
from operations import guards, lock
from operations.wave import gate, one_batch

plan = guarding.of(state)
together = one_batch(state)

lock.take(
    name="One run at a time",
    nodes=plan.changing,
    waves=plan.waves,
    **policies.lock_arguments(host),
)

for wave in host.loop(plan.waves):
    if host.name in wave:
        if plan.remove:
            guards.remove(name=f"{wave}: no guard is left", _parallel=together, _if=wave.is_open)
        else:
            wanted = plan.wanted[host.name]
            guards.install(name=f"{wave}: the node watches itself", wanted=wanted, _parallel=together, _if=wave.is_open)
    gate(name=f"{wave}: gate", wave=wave)
lock.let_go(name="Free for other runs", nodes=plan.changing)

"""Fix a fleet from several machines: planned here for all of it, done by the workers, wave by wave, as one run.

In each wave one worker after the other runs deploys/fix_dns.py on its nodes: locks, backups, timers and the proof are
those of a run from one machine, and so is the run's id: deploys/undo.py takes back all of it. A wave begins when the
one before it is proven. A worker that dies is not replaced: what it has not confirmed, its nodes take back, and the run
stops there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploys.refusals import stop_for, stop_if
from deploys.shards import Answer, Request, heard, packed, work
from reports import terminal

if TYPE_CHECKING:
    from deploys.policy import Policy
    from deploys.shards import Shards

#: Seconds that one worker has for its nodes of a wave: draining takes long.
PATIENCE = 3600


def fix(shards: Shards, dry: bool = False) -> bool:
    """
    Plan for the whole fleet, then change it. Returns whether every wave was proven, or needed nothing.

    + dry: the workers only say what they would change

    Raises PyinfraError where a node would have to refuse: then nothing is changed anywhere.
    """
    from deploys import policy, rollout
    from facts import connecting
    from operations import runs
    from operations.wave import Wave

    fleet: dict[str, Any] = {}
    endpoints: dict[str, set[str]] = {}
    policies: dict[str, Policy] = {}
    refusals: list[str] = []
    for answer in shards.each("plan"):
        said = answer["said"] or {"fleet": {}, "endpoints": {}, "policies": {}}
        fleet |= said["fleet"]
        endpoints |= {vip: set(ends) for vip, ends in said["endpoints"].items()}
        policies |= {name: policy.of_values(values) for name, values in said["policies"].items()}
        refusals += [f"{name}: it could not be reached" for name in answer["nodes"] if name not in said["fleet"]]
    changes, others = rollout.needed(policies, fleet, endpoints, 0)
    stop_if([*refusals, *others])
    waves = rollout.in_waves(changes, next(iter(policies.values())))
    if not any(changes.values()):
        terminal.progress("no node needs a change")
        return True
    # One worker after the other: a node waits for those of its own part. Workers are started without --parallel.
    turns = [
        Wave(wave.number, wave.total, tuple(name for name in part if name in wave.nodes and changes[name]))
        for wave in waves
        for part in shards.parts
    ]
    stop_for(rollout.too_slow(changes, turns, policies, fleet, endpoints, connecting.PARALLEL))
    # CoreDNS starts afresh once, at the end of all: each worker would see to it for its own part.
    last = next(wave for wave in reversed(waves) if any(changes[name] for name in wave.nodes))
    for wave in waves:
        order = packed({"wave": wave.number, "waves": wave.total, "fleet": fleet})
        parts = [[name for name in part if name in wave.nodes and changes[name]] for part in shards.parts]
        todo = [nodes for nodes in parts if nodes]
        for nodes in todo:
            terminal.progress(f"{wave}: {', '.join(nodes)}")
            data = [] if wave is last and nodes is todo[-1] else ["coredns_rollout=false"]
            answer = _ask(shards, nodes, data, order, runs.RUN, dry)
            terminal.quoted(answer["log"])
            if answer["code"]:
                terminal.progress(f"{wave} is not proven: no later node is changed (run {runs.RUN})")
                return False
    if not dry:
        terminal.progress(f"done by run {runs.RUN}; the way back: deploys/undo.py --data run={runs.RUN}")
    return True


def _ask(shards: Shards, nodes: list[str], data: list[str], order: bytes, run: str, dry: bool) -> Answer:
    request: Request = {
        "inventory": shards.inventory,
        "deploy": [*(("--dry", "--diff") if dry else ("-y",)), "deploys/fix_dns.py"],
        "data": [*shards.data, *data],
        "nodes": nodes,
        "order": order,
        "run": run,
    }
    # Bound to one worker: Dask would give what a dead one had to another, while the first may still be at it.
    workers = sorted(shards.client.scheduler_info(n_workers=-1)["workers"])
    place = next(number for number, part in enumerate(shards.parts) if nodes[0] in part)
    worker = workers[place % len(workers)]
    future = shards.client.submit(work, request, pure=False, workers=[worker], allow_other_workers=False, retries=0)
    (answer,) = heard([request], [future], PATIENCE)
    return answer

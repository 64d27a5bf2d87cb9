"""Fix a fleet from several machines: planned here for all of it, done by the workers, wave by wave, as one run.

In each wave one worker after the other runs deploys/fix_dns.py on its nodes: locks, backups, timers and the proof are
those of a run from one machine, and so is the run's id: deploys/undo.py takes back all of it. A wave begins when the
one before it is proven. A worker that dies is not replaced: what it has not confirmed, its nodes take back, and the run
stops there.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from deploys.shards import Answer, Request, heard, work
from reports import terminal

if TYPE_CHECKING:
    from deploys.policy import Policy
    from deploys.rollout import NodeChange
    from deploys.shards import Shards
    from operations.wave import Wave

#: Seconds that one worker has for its nodes of a wave: draining takes long.
PATIENCE = 3600


def fix(shards: Shards, dry: bool = False) -> bool:
    """
    Plan for the whole fleet, then change it. Returns whether every wave was proven, or needed nothing.

    + dry: the workers only say what they would change

    Raises ValueError where a node would have to refuse: then nothing is changed anywhere.
    """
    from operations import runs

    answers = shards.each("read")
    fleet: dict[str, Any] = {}
    endpoints: dict[str, set[str]] = {}
    policies: dict[str, Policy] = {}
    refusals: list[str] = []
    for answer in answers:
        said = answer["said"] or {"fleet": {}, "endpoints": {}, "policies": {}}
        fleet |= said["fleet"]
        endpoints |= {vip: set(ends) for vip, ends in said["endpoints"].items()}
        policies |= {name: _policy(of) for name, of in said["policies"].items()}
        refusals += [f"{name}: it could not be reached" for name in answer["nodes"] if name not in said["fleet"]]
    waves, changes = _plan(policies, fleet, endpoints, refusals)
    if not any(changes.values()):
        terminal.progress("no node needs a change")
        return True
    # Once, at the end of all: each worker would do it for its own part.
    last = next(wave for wave in reversed(waves) if any(changes[name] for name in wave.nodes))
    for wave in waves:
        for part in shards.parts:
            nodes = [name for name in part if name in wave.nodes and changes[name]]
            if not nodes:
                continue
            terminal.progress(f"{wave}: {', '.join(nodes)}")
            data = [] if wave is last else ["coredns_rollout=false"]
            known = {"wave": wave.number, "waves": wave.total, "fleet": fleet}
            answer = _ask(shards, nodes, data, known, runs.RUN, dry)
            terminal.quoted(answer["log"])
            if answer["code"]:
                terminal.progress(f"{wave} is not proven: no later node is changed (run {runs.RUN})")
                return False
    if not dry:
        terminal.progress(f"done by run {runs.RUN}; the way back: deploys/undo.py --data run={runs.RUN}")
    return True


def _plan(
    policies: Mapping[str, Policy],
    fleet: Mapping[str, Any],
    endpoints: Mapping[str, set[str]],
    refusals: Sequence[str],
) -> tuple[tuple[Wave, ...], Mapping[str, NodeChange]]:
    """The waves and what each node needs. Raises ValueError with the sentences of all that would have to refuse."""
    from deploys import rollout

    changes, others = rollout.needed(policies, fleet, endpoints, 0)
    if refusals or others:
        end = "Nothing was changed on any node. To go on without such a node: --exclude NODE."
        raise ValueError("\n    ".join(["stopped before any change:", *refusals, *others, end]))
    return rollout.in_waves(changes, next(iter(policies.values()))), changes


def _ask(shards: Shards, nodes: list[str], data: list[str], known: Mapping[str, Any], run: str, dry: bool) -> Answer:
    from distributed import wait

    request: Request = {
        "inventory": shards.inventory,
        "deploy": [*(("--dry", "--diff") if dry else ("-y",)), "deploys/fix_dns.py"],
        "data": [*shards.data, *data],
        "nodes": nodes,
        "order": zlib.compress(json.dumps(known).encode(), 1),
        "run": run,
    }
    # Bound to one worker: Dask would give what a dead one had to another, while the first may still be at it.
    workers = sorted(shards.client.scheduler_info(n_workers=-1)["workers"])
    place = next(number for number, part in enumerate(shards.parts) if nodes[0] in part)
    worker = workers[place % len(workers)]
    future = shards.client.submit(work, request, pure=False, workers=[worker], allow_other_workers=False, retries=0)
    with suppress(TimeoutError):
        wait([future], timeout=PATIENCE)
    return heard(request, future, PATIENCE)


def _policy(of: Mapping[str, Any]) -> Policy:
    from deploys.policy import Policy

    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in of.items()}
    return Policy(**values)

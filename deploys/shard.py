"""One step of a run over shards (deploys/shards.py), on a worker, for the nodes of --limit. Reads and asks only.

    pyinfra -y inventory deploys/shard.py --limit node-0 --data shard=FILE

FILE is JSON: which step, and what is known of the other shards' nodes. The answer is written to FILE.answer.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyinfra import host, inventory, state

from deploys import endpoints, evidence, look
from deploys import policy as policies
from facts import snapshot

hosts = snapshot.active(inventory)

# pyinfra runs this file once per host: the first one speaks for the shard.
if host.name == hosts[0].name:
    file = Path(host.data.shard)
    request = json.loads(file.read_bytes())
    if request["step"] == "read":
        policy = policies.of(host)
        fleet = snapshot.fleet(hosts)
        late = [one.name for one in hosts if snapshot.late(one)]
        answer: dict[str, Any] = {"policy": asdict(policy), "fleet": fleet, "late": late}
    elif request["step"] == "plan":
        answer = {
            "policies": {one.name: asdict(policies.of(one)) for one in hosts},
            "endpoints": {vip: sorted(ends) for vip, ends in endpoints.of(state).endpoints.items()},
            "fleet": snapshot.fleet(hosts),
        }
    elif request["step"] == "ask":
        known = [one for one in hosts if request["fleet"].get(one.name) is not None]
        recorded = look.ask(known, request["fleet"], [], policies.of(host), request["started"]) if known else None
        answer = {"recorded": recorded and asdict(recorded)}
    else:
        answer = {"histories": evidence.histories([one for one in hosts if one.name in request["read"]])}
    file.with_suffix(".answer").write_text(json.dumps(answer))

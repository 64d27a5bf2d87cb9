"""Diagnose a fleet from several machines, each near its part of the nodes, as one run; and fix it, if that is asked.

    python -m deploys.shards inventory                                        # two workers on this machine
    python -m deploys.shards inventory --scheduler tls://198.51.100.1:8786    # workers of a Dask cluster
    python -m deploys.shards inventory --data html=FILE --data bundle=DIR     # as for deploys/diagnose.py
    python -m deploys.shards inventory --fix --dry                            # what deploys/fix_dns.py would do
    python -m deploys.shards inventory --fix                                  # and do it, then diagnose

The inventory is split into as many parts as there are workers, in its order. Each worker runs pyinfra on its part, from
a checkout like this one; what they have read is put together here, and each is told all of it before it asks, so that
the ways of queries from one part to another are known. A part whose worker dies is given to another one. Checks,
verdict and reports are those of a run from one machine: deploys/shards_fix.py says how it is fixed. Needs the extra
`distributed` (docs/scale.md).

Exit code: 0 all well; 1 something failed, was unreachable or is unknown; 2 a wrong option.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from deploys.exits import Exit

if TYPE_CHECKING:
    from distributed import Client, Future

    from checks.diagnosis import Hop
    from deploys.bundle import Recorded

#: Seconds that the workers have for one step, all of them together, whatever happens to some.
PATIENCE = 600
#: What is kept of a worker's log where it has not answered.
_LAST_WORDS = 400
#: The same where it changes something.
_ALL_WORDS = 100_000
#: What of deploys/diagnose.py is not done here, and what does it.
_ELSEWHERE = {
    "replay": "no node is needed for it: pyinfra -y @local deploys/diagnose.py --data replay=DIR",
    "capture": "pyinfra -y inventory deploys/diagnose.py --limit NODE --data capture=DIR",
}

Step = Literal["read", "ask", "history", "plan"]


class Request(TypedDict):
    """What a worker is to do on these nodes: pyinfra's options and deploy, and a step in `order`, compressed JSON."""

    inventory: str
    deploy: list[str]
    data: list[str]
    nodes: list[str]
    order: bytes
    run: str


class Answer(TypedDict):
    """What became of it: `said` is None where pyinfra reached no node, or failed; `log` is its last words."""

    nodes: list[str]
    said: dict[str, Any] | None
    log: str
    code: int


def work(request: Request) -> Answer:
    """Run one step. On the worker, in the folder of its checkout."""
    with tempfile.TemporaryDirectory(prefix="dnsmend-shard-") as scratch:
        file = Path(scratch) / "request.json"
        file.write_bytes(zlib.decompress(request["order"]))
        limits = [f"--limit={name}" for name in request["nodes"]]
        data = [f"--data={each}" for each in [*request["data"], f"shard={file}"]]
        command = [sys.executable, "-m", "pyinfra", request["inventory"], *request["deploy"], *limits, *data]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=os.environ | ({"DNSMEND_RUN": request["run"]} if request["run"] else {}),
        )
        answer = file.with_suffix(".answer")
        said = json.loads(answer.read_bytes()) if answer.exists() else None
    log = "" if said else done.stderr[-(_ALL_WORDS if request["run"] else _LAST_WORDS) :]
    return {"nodes": request["nodes"], "said": said, "log": log, "code": done.returncode}


@dataclass(frozen=True)
class Shards:
    """
    The parts of a fleet, and those who look at them.

    + inventory, data: as for pyinfra; parts: names of nodes
    """

    client: Client
    inventory: str
    data: list[str]
    parts: list[list[str]]
    patience: float = PATIENCE

    def each(self, step: Step, known: Mapping[str, Any] | None = None) -> list[Answer]:
        """
        One answer for each part; a part that no worker has answered for in time has said nothing.

        + known: what the step needs to know, as JSON
        """
        order = packed({"step": step, **(known or {})})
        requests: list[Request] = [
            {
                "inventory": self.inventory,
                "deploy": ["-y", "deploys/shard.py"],
                "data": self.data,
                "nodes": part,
                "order": order,
                "run": "",
            }
            for part in self.parts
        ]
        # Dask gives what a dead worker had to another one.
        futures = [self.client.submit(work, request, pure=False) for request in requests]
        return heard(requests, futures, self.patience)


def packed(order: Mapping[str, Any]) -> bytes:
    """As a worker gets it. The snapshots of a fleet are much alike: a tenth of their size is sent."""
    return zlib.compress(json.dumps(order).encode(), 1)


def heard(requests: Sequence[Request], futures: Sequence[Future[Answer]], patience: float) -> list[Answer]:
    """What the workers have answered within so many seconds, all of them together; why the others have not."""
    from distributed import wait

    with suppress(TimeoutError):
        wait(futures, timeout=patience)
    return [_heard(request, future, patience) for request, future in zip(requests, futures, strict=True)]


def _heard(request: Request, future: Future[Answer], patience: float) -> Answer:
    from distributed import CancelledError

    try:
        if not future.done():
            future.cancel()
            raise TimeoutError(f"no worker has answered within {patience:.0f} s")
        answer: Answer = future.result(timeout=60)
        return answer
    except (Exception, CancelledError) as error:
        log = f"{type(error).__name__}: {error}"
        return {"nodes": request["nodes"], "said": None, "log": log[-_LAST_WORDS:], "code": 1}


def look(shards: Shards) -> Recorded:
    """All that is judged, put together. Raises ValueError where not one node was read."""
    from deploys.bundle import Recorded
    from deploys.look import now, troubles
    from reports import terminal

    started = now()
    names = [name for part in shards.parts for name in part]
    terminal.progress(f"reading {len(names)} nodes from {len(shards.parts)} shards")
    fleet: dict[str, Any] = {}
    missing: list[str] = []
    late: list[str] = []
    unseen: list[str] = []
    policy: dict[str, Any] = {}
    for answer in shards.each("read"):
        said = answer["said"] or {"fleet": {}, "late": [], "policy": policy}
        fleet |= said["fleet"]
        late += said["late"]
        policy = policy or said["policy"]
        missing += [name for name in answer["nodes"] if name not in said["fleet"]]
        unseen += _silence(answer, "read")
    fleet = {name: fleet.get(name) for name in names}
    if not any(fleet.values()):
        raise ValueError("not one node was read" + "".join(f"\n    {why}" for why in unseen))

    terminal.progress("asking from pods and nodes, hop by hop, and reading the counters again")
    parts = []
    for answer in shards.each("ask", {"fleet": fleet, "started": started}):
        unseen += _silence(answer, "asked from")
        if answer["said"] and answer["said"]["recorded"]:
            parts.append((answer, answer["said"]["recorded"]))
    evidence = _together([(set(answer["nodes"]), recorded["evidence"]) for answer, recorded in parts])
    evidence["unseen"] = list(dict.fromkeys([*unseen, *evidence["unseen"]]))
    return Recorded(
        started=started,
        finished=now(),
        nodes=troubles(fleet, missing, late),
        fleet=fleet,
        results={name: results for _, recorded in parts for name, results in recorded["results"].items()},
        policy=policy,
        evidence=evidence,
    )


def look_back(shards: Shards, seen: Recorded, walked: Sequence[Hop]) -> None:
    """Add what the nodes' logs and files tell of the past; `walked` are the hops as they were judged."""
    from checks.timeline import timeline
    from deploys import evidence
    from reports import terminal

    terminal.progress("reading what changed, and CoreDNS's logs")
    past: dict[str, Any] = {}
    read = [name for name, why in seen.nodes.items() if not why]
    for answer in shards.each("history", {"read": read}):
        past |= (answer["said"] or {"histories": {}})["histories"]
        seen.evidence["unseen"] += _silence(answer, "asked for their past")
    seen.evidence["timeline"] = timeline(past, walked, seen.started)
    seen.evidence["logs"] = evidence.coredns(past)


def split(names: Sequence[str], parts: int) -> list[list[str]]:
    """The nodes in so many parts, alike in size and each in their order; fewer where there are fewer nodes."""
    parts = max(1, min(parts, len(names)))
    size, more = divmod(len(names), parts)
    ends = [number * size + min(number, more) for number in range(parts + 1)]
    return [list(names[begin:end]) for begin, end in pairwise(ends)]


def _together(parts: Iterable[tuple[set[str], dict[str, Any]]]) -> dict[str, Any]:
    """The shards' evidence as one. Each knows all hops, and has asked those of its own nodes."""
    hops: dict[str, Any] = {}
    counters: dict[str, Any] = {}
    endpoints: dict[str, Any] = {}
    unseen: dict[str, None] = {}
    for own, evidence in parts:
        for hop in evidence["hops"]:
            if hop["node"] in own or hop["id"] not in hops:
                hops[hop["id"]] = hop
        counters |= evidence["counters"]
        endpoints |= evidence["endpoints"]
        unseen |= dict.fromkeys(evidence["unseen"])
    return {"hops": list(hops.values()), "counters": counters, "endpoints": endpoints, "unseen": list(unseen)}


def _silence(answer: Answer, what: str) -> list[str]:
    """A sentence about nodes whose worker has said nothing."""
    if answer["said"] is not None:
        return []
    nodes = answer["nodes"]
    some = ", ".join(nodes[:3]) + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")
    last = next((line.strip() for line in reversed(answer["log"].splitlines()) if line.strip()), "no reason given")
    return [f"{some}: not {what} by their shard's worker: {last}"]


def names_of(inventory: str, data: Sequence[str]) -> list[str]:
    """The inventory's nodes in their order, as pyinfra tells them. Raises ValueError, in pyinfra's last words."""
    command = [sys.executable, "-m", "pyinfra", inventory, "debug-inventory", "--json"]
    done = subprocess.run(
        [*command, *(f"--data={each}" for each in data)], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode or not done.stdout:
        raise ValueError(done.stderr[-_LAST_WORDS:].strip() or f"{inventory}: no inventory")
    names = [each["name"] for each in json.loads(done.stdout)]
    if not names:
        raise ValueError(f"{inventory}: there is no node in this inventory")
    return names


@contextmanager
def workers(scheduler: str, count: int) -> Iterator[Client]:
    """Those of a Dask cluster, or so many processes on this machine."""
    from distributed import Client, LocalCluster

    if scheduler:
        with Client(scheduler, timeout=30) as client:
            yield client
        return
    with (
        LocalCluster(n_workers=count, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def main(arguments: Sequence[str]) -> Exit:
    """Diagnose, and write the reports that are asked for."""
    from deploys import bundle, cases, telling
    from reports import terminal, write

    options = _options(arguments)
    own, others = _own(options.data)
    paths, before = write.wanted(own), telling.earlier(own.get("before"))
    if "bundle" in own:
        bundle.check(own["bundle"])
    names = [name for name in names_of(options.inventory, others) if name not in options.exclude]
    fixed = True
    with workers(options.scheduler, options.workers) as client:
        count = len(client.scheduler_info(n_workers=-1)["workers"])
        if not count:
            raise ValueError(f"{options.scheduler}: this scheduler has no worker")
        shards = Shards(client, options.inventory, others, split(names, count))
        if options.fix:
            from deploys import shards_fix

            # Whatever has come of it is what the diagnosis after it says.
            fixed = shards_fix.fix(shards, options.dry)
            if options.dry:
                return Exit.WELL if fixed else Exit.NOT_WELL
        seen = look(shards)
        diagnosis = cases.judged(seen)
        if not cases.well(diagnosis):
            look_back(shards, seen, diagnosis["hops"])
            diagnosis = cases.judged(seen)
    if before:
        diagnosis["before"] = before
    terminal.summary(diagnosis)
    try:
        write.write(diagnosis, paths)
    finally:
        # One that fails does not take the other with it.
        if "bundle" in own:
            bundle.save(own["bundle"], seen, pseudonyms=own.get("pseudonyms") == "true")
    return Exit.WELL if fixed and cases.well(diagnosis) else Exit.NOT_WELL


def _own(data: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """What of --data is for this process, by key, and what for the workers. Raises ValueError for what is for none."""
    from reports import write

    given = dict(each.split("=", 1) for each in data if "=" in each)
    for key, instead in _ELSEWHERE.items():
        if key in given:
            raise ValueError(f"--data {key}: not over shards: {instead}")
    own = {key: value for key, value in given.items() if key in (*write.FORMATS, "bundle", "before", "pseudonyms")}
    if own.get("pseudonyms", "false") not in ("true", "false"):
        raise ValueError(f"--data pseudonyms={own['pseudonyms']}: must be true or false")
    return own, [each for each in data if each.split("=", 1)[0] not in own]


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m deploys.shards", description="0 all well, 1 anything else")
    parser.add_argument("inventory", help="as for pyinfra; each worker has it, too")
    parser.add_argument("--scheduler", default="", help="the address of a Dask scheduler; its workers are used")
    parser.add_argument("--workers", type=int, default=2, help="processes on this machine, where there is no scheduler")
    parser.add_argument("--exclude", metavar="NODE", action="append", default=[], help="leave this node alone")
    parser.add_argument("--fix", action="store_true", help="as deploys/fix_dns.py, wave by wave; then diagnose")
    parser.add_argument("--dry", action="store_true", help="with --fix: only print what would be done")
    parser.add_argument("--data", metavar="KEY=VALUE", action="append", default=[], help="as for diagnose.py")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    from pyinfra.api.exceptions import PyinfraError

    try:
        sys.exit(main(sys.argv[1:]))
    except (PyinfraError, OSError, ValueError, ImportError) as error:
        print(f"ERROR {error}", file=sys.stderr)
        sys.exit(Exit.NOT_WELL)

"""One run at a time: every node that is going to be changed is held by this run, and the cluster where it has an API.

A lock is a file in /run of the node, so that a boot ends it: what was changed and not confirmed is taken back then, and
a run that has lost its lock to another one changes nothing there any more. It runs out after `TTL` seconds since boot
unless it is renewed, which this process does for as long as it lives.
"""

from __future__ import annotations

import atexit
import signal
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gevent
import gevent.event
from pyinfra import host, logger
from pyinfra.api.command import FunctionCommand, QuoteString, StringCommand
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.facts import FactBase, get_fact
from pyinfra.api.host import Host
from pyinfra.api.operation import operation
from pyinfra.api.state import State
from typing_extensions import override

from facts import parallel
from facts.kubectl import Kubectl, KubectlError
from operations import lease, runs
from operations.scripts import TEMPLATES
from operations.wave import Wave, refusal

#: Seconds for which a lock is good unless it is renewed: what a killed controller costs.
TTL = 180
#: Seconds from one round of renewals to the next, of which two may fail.
_RENEWAL = 45
#: Seconds that a node may take to answer.
_TIMEOUT = 60
#: Seconds that the end of this process waits for locks that are being taken in that moment.
_SETTLES = 10


class Answer(FactBase[str]):
    """What came of taking, renewing or releasing the node's lock: "held", "refused: ...". A fact for the way alone.

    + verb: "take", "renew" or "release"
    + run: the run's id; undoing: the run that it takes back, "" for none
    """

    @staticmethod
    @override
    def default() -> str:
        return ""

    @override
    def process(self, output: list[str]) -> str:
        return runs.printable(output[-1]) if output else ""

    @override
    def command(self, verb: str, run: str, undoing: str = "") -> StringCommand:
        return StringCommand("sh", "-c", QuoteString(script(run, undoing)), "-", verb)


def script(run: str, undoing: str = "", by: str = runs.BY, ttl: int = TTL) -> str:
    """The shell script of a node's lock; its argument is take, renew or release, its last line what came of it.

    + undoing: a run that is not in the way although nobody has confirmed it: it is taken back; "" for none
    """
    return TEMPLATES.get_template("lock.sh.j2").render(
        run=run, undoing=undoing, by=by, ttl=ttl, lock=runs.NODE_LOCK, folder=runs.NODE_DIRECTORY
    )


@dataclass
class _Held:
    """What this process holds, and the names of the nodes that it is just letting go of."""

    hosts: dict[str, Host] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    lease: tuple[Kubectl, str] | None = None
    asked: dict[str, gevent.event.AsyncResult] = field(default_factory=dict)
    watched: bool = False


_held = _Held()
#: The runs whose journal is open here.
_begun: dict[str, State] = {}


@operation()
def take(
    nodes: Sequence[str],
    waves: Sequence[Wave],
    policy: Mapping[str, Any],
    kubectl: Kubectl | None = None,
    namespace: str = "kube-system",
    undoing: str = "",
    run: str = runs.RUN,
) -> Generator[StringCommand | FunctionCommand, None, None]:
    """
    Hold every node that is going to be changed, all or none, before anything is changed on one. For every host.

    + nodes: the names of those that are; none is taken where there are none
    + waves: and policy: for the run's journal, which begins here
    + kubectl: the way to the cluster's API; None for none: then the nodes alone are held
    + namespace: where the cluster's Lease is
    + undoing: the run that is taken back; "" for none
    + run: the run's id

    Where another run holds one of them, every host fails with who that is, and nothing is changed anywhere. What is
    held is released when this process ends, however it does; what a killed one has left runs out.

    **Example:**

    .. code:: python

        lock.take(name="One run at a time", nodes=["node-0"], waves=plan.waves, policy=asdict(policy))
    """
    if not nodes:
        host.noop("nothing is going to be changed")
        return
    if not host.state.is_executing:
        if host.name in nodes:
            yield FunctionCommand(_say, ["this run is to hold the node"], {})
        return
    refusals = _once(run, [each for each in host.state.inventory if each.name in nodes], kubectl, namespace, undoing)
    if refusals:
        yield refusal("\n    ".join(["stopped before any change:", *refusals, "Nothing was changed on any node."]))
        return
    if run not in _begun:
        _begun[run] = host.state
        runs.begin(run, waves, policy)
    if host.name in nodes:
        yield FunctionCommand(_say, [f"held by run {run}"], {})


@operation()
def let_go(nodes: Sequence[str], run: str = runs.RUN) -> Generator[StringCommand, None, None]:
    """
    Release this node, if this run holds it: what this process does at its end all the same, over a connection anew.

    + nodes: the names of those that it holds
    + run: the run's id

    **Example:**

    .. code:: python

        lock.let_go(name="Free for other runs", nodes=["node-0"])
    """
    if host.name not in nodes:
        host.noop("not held")
        return
    _held.leaving.add(host.name)
    yield StringCommand("sh", "-c", QuoteString(script(run)), "-", "release")
    _held.hosts.pop(host.name, None)


def _once(run: str, hosts: Sequence[Host], kubectl: Kubectl | None, namespace: str, undoing: str) -> list[str]:
    """What stands in the way, in sentences. pyinfra asks for each host: the first one asks for all."""
    if run not in _held.asked:
        _held.asked[run] = gevent.event.AsyncResult()
        try:
            _held.asked[run].set(_take(run, hosts, kubectl, namespace, undoing))
        except Exception as error:
            _held.asked[run].set([f"the locks could not be taken: {error}"])
    found: list[str] = _held.asked[run].get()
    return found


def _take(run: str, hosts: Sequence[Host], kubectl: Kubectl | None, namespace: str, undoing: str) -> list[str]:
    if not _held.watched:
        _held.watched = True
        atexit.register(release)
        for ending in (signal.SIGTERM, signal.SIGHUP):
            # A CI job that is cancelled, a terminal that goes away. Who ignores one (nohup) goes on.
            if signal.getsignal(ending) is signal.SIG_DFL:
                # Python's own handler would end whichever greenlet runs, one that holds a connection's lock perhaps.
                gevent.signal_handler(ending, _end, ending)
    if kubectl:
        # Remembered first: a change that went through while its answer was lost has to be taken back too.
        _held.lease = (kubectl, namespace)
        try:
            if taken_over := lease.take(kubectl, namespace, run, runs.BY, TTL):
                logger.warning(taken_over)
        except lease.Taken as other:
            _held.lease = None
            return [f"the cluster: {other}"]
        except KubectlError as reason:
            return _given_up(run, [f"the cluster's Lease: {reason}"])
    # One node alone comes first: of two runs that begin together and want the same nodes, one gets them all.
    first, *rest = sorted(hosts, key=lambda each: each.name)
    for group in ([first], rest):
        # Remembered first, as above.
        _held.hosts |= {each.name: each for each in group}
        answers = parallel.each(group, lambda each: _ask(each, "take", run, undoing))
        for name in (name for name, said in answers.items() if said.startswith("refused: ")):
            _held.hosts.pop(name, None)
        refusals = [
            f"{name}: {said.removeprefix('refused: ') or 'its lock could not be taken'}"
            for name, said in answers.items()
            if not said.startswith(("held", "taken"))
        ]
        if refusals:
            return _given_up(run, refusals)
        for name, said in answers.items():
            if said.startswith("taken over"):
                logger.warning(f"{name}: {said}")
    gevent.spawn_later(_RENEWAL, _renewing, run)
    if kubectl:
        gevent.spawn_later(_RENEWAL, _renewing_lease, run)
    return []


def _given_up(run: str, refusals: list[str]) -> list[str]:
    _release(run)
    return refusals


def _ask(of: Host, verb: str, run: str, undoing: str = "") -> str:
    kwargs = {"verb": verb, "run": run, "undoing": undoing, "_timeout": _TIMEOUT}
    try:
        said = get_fact(of.state, of, Answer, kwargs=kwargs, apply_failed_hosts=False)
    except Exception as error:
        return f"it did not answer: {error}"
    return str(said or "")


def _renewing(run: str) -> None:
    while _held.hosts:
        began = time.monotonic()
        _renew(run)
        gevent.sleep(max(1.0, began + _RENEWAL - time.monotonic()))


def _renew(run: str) -> None:
    """Side by side: one after the other, a few nodes that hang would cost all others their locks."""
    hosts = [each for each in _held.hosts.values() if each.name not in _held.leaving]
    for name, said in parallel.each(hosts, lambda each: _ask(each, "renew", run)).items():
        if said.startswith("refused: ") and name in _held.hosts and name not in _held.leaving:
            _held.hosts.pop(name)
            logger.error(f"{name}: this run has lost its lock: {said.removeprefix('refused: ')}")


def _renewing_lease(run: str) -> None:
    """Apart from the nodes: neither is to wait for the other."""
    while _held.lease:
        kubectl, namespace = _held.lease
        try:
            lease.take(kubectl, namespace, run, runs.BY, TTL)
            # Released meanwhile: it was taken anew then.
            if not _held.lease:
                lease.release(kubectl, namespace, run)
        except (lease.Taken, KubectlError) as reason:
            logger.error(f"the cluster's Lease is not renewed: {reason}")
        gevent.sleep(_RENEWAL)


def release(run: str = runs.RUN) -> None:
    """Let go of everything that this process holds. Registered with `atexit`; what cannot be released runs out."""
    # A node may be agreeing just now: its lock is there after what is asked of it in between.
    if taking := _held.asked.get(run):
        taking.wait(_SETTLES)
    _release(run)


def _release(run: str) -> None:
    hosts, _held.hosts = list(_held.hosts.values()), {}
    held, _held.lease = _held.lease, None
    answers = parallel.each(hosts, lambda each: _ask(each, "release", run))
    # In the middle of a run the connection may be gone: at its end, when all are closed, another one is opened.
    _held.hosts = {
        each.name: each
        for each in hosts
        if each.connected and not answers[each.name].startswith(("released", "not ours"))
    }
    if state := _begun.pop(run, None):
        try:
            runs.record(run, "", "ended", failed=sorted(each.name for each in state.failed_hosts))
        except PyinfraError as reason:
            logger.error(str(reason))
    if held:
        try:
            lease.release(*held, run)
        except (lease.Taken, KubectlError) as reason:
            logger.warning(f"the cluster's Lease is not released, and runs out within {TTL} s: {reason}")


def _end(number: int) -> None:
    """End as the signal would, but for what is done at the end."""
    sys.exit(128 + number)


def _say(sentence: str) -> None:
    host.log(sentence)

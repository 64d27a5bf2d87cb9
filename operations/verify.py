"""The proof: the same questions that find the fault, asked after the repair."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence

from pyinfra import host, logger
from pyinfra.api.command import FunctionCommand, StringCommand
from pyinfra.api.operation import OperationMeta, operation

from facts import snapshot
from models import node
from models.dnsmasq import Socket
from operations import runs
from operations.wave import Wave
from probes.count import asked, lost, summary, unknown
from probes.denied import denied
from probes.dns import Answers
from probes.fleet import side_by_side
from probes.probe import Probe, Result
from probes.questions import Asking, ended, own_name, questions


@operation()
def dns_answers(
    wave: Wave,
    changes: Sequence[OperationMeta],
    how: Asking,
    vips: Sequence[str] | None = None,
    services: Sequence[str] = (),
    listening: Collection[Socket] = (),
    run: str = runs.RUN,
) -> Generator[StringCommand | FunctionCommand, None, None]:
    """
    Ask the DNS addresses of the node and of the cluster from its pods and from itself; all must be answered.

    + wave: fails for this host where something is lost, or could not be asked
    + changes: the operations that are to be proven; their undo timers are stopped once they are
    + how: names, tries, deadlines. A name that the node itself loses too at dnsmasq is reported, and is no failure
    + vips: the addresses on which nodes serve DNS; None to discover them
    + services: the addresses of the cluster's DNS services
    + listening: the sockets that a dnsmasq which is changed is to have, by the plan: on cilium_host's address with
      bind-interfaces and bind-dynamic for one. After the change it must have those whose addresses are still there
    + run: the run whose change is confirmed

    A pod that has ended meanwhile is no reason to take anything back: the pods that are there then are asked instead.
    In the prepare phase, and in a dry run, nothing is asked.

    **Example:**

    .. code:: python

        verify.dns_answers(name="Pods are answered", wave=wave, changes=[listening], how=asking)
    """
    if not host.state.is_executing:
        if any(change.will_change for change in changes):
            yield FunctionCommand(_report, ["every question must be answered"], {})
        return
    changed = any(change.did_change() for change in changes)
    if changed:
        snapshot.forget(host)
    # Who asks whom in the fleet tells the addresses; where they are known, the node's own snapshot is enough.
    inventory = host.state.inventory
    fleet = snapshot.everyone(inventory) if vips is None else snapshot.fleet([inventory.get_host(host.name)])
    served = node.vips(fleet, vips)[host.name]
    read = fleet[host.name]
    if read is None or (changed and not served and not services):
        wave.fail(host.name, "not proven: the node could not be read after the change")
        yield FunctionCommand(_report, [wave.failures[host.name]], {})
        return
    asking = questions(read, served, services, how)
    # All nodes of the wave ask in this very moment.
    together = max(1, min(len(wave.nodes), host.state.config.PARALLEL))
    rate = side_by_side(asking, how.rate, together, own=served)
    results = _asked(asking, how, rate)
    problems, remarks = judge(results, {address: node.asking(read, address) for address in served})
    if problems:
        # Who lost something may be a pod that has ended since the node was read.
        snapshot.forget(host)
        later = snapshot.of(inventory.get_host(host.name))
        gone = ended(results, later)
        if later is not None and gone:
            host.log(f"ended meanwhile, and left out: {', '.join(gone)}")
            read = later
            results = [result for result in results if result["probe"]["source"]["name"] not in gone]
            known = [result["probe"] for result in results]
            instead = [one for one in questions(read, served, services, how) if one not in known]
            asking = [*known, *instead]
            results += _asked(instead, how, rate)
            problems, remarks = judge(results, {address: node.asking(read, address) for address in served})
    # pyinfra returns an empty list for an exec that failed where failed hosts end no run (--fail-percent, "continue?").
    if len(results) != len(asking):
        problems = [f"the node could not be asked: {len(results)} of {len(asking)} questions came back", *problems]
    if changed and not asking:
        problems = ["there was nothing to ask after the change"]
    if changed and read["pods"]["state"] not in ("value", "empty"):
        problems = ["the node's pods could not be read after the change", *problems]
    if listening and changed:
        problems = [*_not_listening(read, served, listening), *problems]
    runs.record(
        run, host.name, "asked", answers={asked(result): summary(result) for result in results}, proven=not problems
    )
    for remark in remarks:
        host.log(remark)
    if problems:
        wave.fail(host.name, f"not proven: {problems[0]}" + (f", and {len(problems) - 1} more" if problems[1:] else ""))
        yield FunctionCommand(_report, [wave.failures[host.name]], {})
    elif changed:
        yield from runs.confirm(run)
    elif results:
        host.noop(f"{len(results)} probes, each answered {how.tries}/{how.tries}")


def _asked(asking: Sequence[Probe], how: Asking, rate: int) -> list[Result]:
    """What came back; what lost a tenth or less is asked once more."""
    results: list[Result] = host.get_fact(Answers, probes=asking, rate=rate) if asking else []
    # A busy node may lose a try or two to its own load: such a probe is asked once more, and must then lose none.
    again = [index for index, result in enumerate(results) if 0 < lost(result) + unknown(result) <= how.tries // 10]
    if again:
        host.log(f"asked again: {', '.join(f'{asked(results[i])}: {summary(results[i])}' for i in again)}")
        repeated = host.get_fact(Answers, probes=[asking[index] for index in again], rate=rate)
        for index, result in zip(again, repeated, strict=False):
            results[index] = result
    return results


def _not_listening(read: snapshot.Snapshot, served: Sequence[str], listening: Collection[Socket]) -> list[str]:
    """What the changed dnsmasq should listen on by its configuration and does not."""
    if read["sockets"]["state"] != "value" or read["dnsmasq"]["state"] != "value":
        return ["whether dnsmasq listens could not be read after the change"]
    # Where it listens is not known of one whose configuration is not: the questions have to do.
    instances = [instance for vip in served if (instance := node.serving(read, vip)) and not instance["error"]]
    missing = dict.fromkeys(
        socket for instance in instances for socket in node.not_listening(read, instance, listening)
    )
    return [f"dnsmasq does not listen on {', '.join(missing)}"] if missing else []


def judge(results: Sequence[Result], asks: Mapping[str, Collection[str]]) -> tuple[list[str], list[str]]:
    """What speaks against the proof, and what only has to be said. Whether all came back is not asked here.

    + asks: by dnsmasq's addresses those of the pods that ask it by themselves: a NetworkPolicy may keep others from it

    A name that the node itself loses as well is its upstream's fault: version.bind tells whether dnsmasq answers.
    """
    dnsmasqs = {result["probe"]["destination"] for result in results if own_name(result["probe"])}
    kept_out = denied(results, asks)
    upstream = {
        (result["probe"]["destination"], result["probe"]["protocol"])
        for result in results
        if result["probe"]["destination"] in dnsmasqs
        and result["probe"]["source"]["name"] == "host"
        and not own_name(result["probe"])
        and lost(result)
    }
    problems: list[str] = []
    remarks: list[str] = []
    for result in results:
        probe = result["probe"]
        if not lost(result) and not unknown(result):
            continue
        sentence = f"{asked(result)}: {summary(result)}"
        if result in kept_out:
            remarks.append(f"{sentence} (other pods are answered there: a NetworkPolicy, as it seems)")
        elif not own_name(probe) and (probe["destination"], probe["protocol"]) in upstream:
            remarks.append(f"{sentence} (lost from the node itself as well: its upstream does not answer)")
        else:
            problems.append(sentence)
    return problems, remarks


def _report(sentence: str) -> bool:
    host.log_styled(sentence, fg="yellow", log_func=logger.warning)
    return True

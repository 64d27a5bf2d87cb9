"""kube-proxy's and the kubelet's rules in the iptables backend that they no longer use."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra import host
from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation

from facts.alternatives import Alternatives
from facts.netfilter import Backend, KubeRules, NftTables, Ruleset
from facts.netfilter_chains import BARE, HASHED, HINTS, OWN_COMMENT, OWNED
from models.refused import Refused
from models.stale_rules import Stale, has_services, other, saved, stale
from operations import runs
from operations.scripts import step_script
from operations.wave import refusal

STEP = "netfilter"
HINTS_STEP = "netfilter-hints"


@operation()
def remove_hints(losing: Backend, undo_after: int = 600, run: str = runs.RUN) -> Generator[StringCommand, None, None]:
    """
    Remove the hint and canary chains from the losing backend, IPv4 and IPv6. They hold no rules.

    + losing: "nft" or "legacy"
    + undo_after: seconds after which the node takes the change back unless `verify.dns_answers` has confirmed it
    + run: the run's id, under which the old rules are kept on the node

    A containerised kube-proxy looks for them when its container starts, and one in nft, even for IPv6 only, makes it
    choose nft: call this before it is restarted.

    **Example:**

    .. code:: python

        netfilter.remove_hints(name="No hint in nft", losing="nft")
    """
    yield from _remove(losing, True, undo_after, run)


@operation()
def remove_stale(losing: Backend, undo_after: int = 600, run: str = runs.RUN) -> Generator[StringCommand, None, None]:
    """
    Remove every rule and chain of kube-proxy and the kubelet from the losing backend, IPv4 and IPv6, and nothing else.

    + losing: "nft" or "legacy"
    + undo_after: seconds after which the node takes the change back unless `verify.dns_answers` has confirmed it
    + run: the run's id, under which the old rules are kept on the node

    Chains are theirs by an allow-list of names. Everybody else's rules stay as they are, byte for byte and in order,
    which is checked afterwards; a rule of somebody else's that leads into one of the chains is named, and nothing is
    done. Refused while kube-proxy still writes to the losing backend only: restart it first.

    **Example:**

    .. code:: python

        netfilter.remove_stale(name="No stale rule in nft", losing="nft")
    """
    yield from _remove(losing, False, undo_after, run)


def _remove(losing: Backend, hints_only: bool, undo_after: int, run: str) -> Generator[StringCommand, None, None]:
    try:
        reading = host.get_fact(KubeRules)
        if reading["state"] == "tool missing":
            host.noop(f"no iptables here: {reading['detail']}")
            return
        if reading["state"] not in ("value", "empty"):
            raise Refused(f"its rules are not known: {reading['state']}: {reading['detail']}")
        found = stale(reading["value"], losing, hints_only)
        # In a plan the operations before this one have not run: what they are to bring about is not there yet.
        if found and not hints_only and host.state.is_executing:
            _check_winner(reading["value"], losing)
    except Refused as reason:
        yield refusal(f"refused: {reason}")
        return
    if not found:
        host.noop(f"{losing} holds no rules of kube-proxy or the kubelet")
        return
    if not host.state.is_executing:
        for each in found:
            host.log(f"stale: {each}. {each.command}-restore --noflush, table {each.table}:")
            for line in each.removal:
                host.log(f"    {line}")
    command = StringCommand(script(found, saved(reading["value"]), hints_only, run, undo_after))
    step = HINTS_STEP if hints_only else STEP
    yield from runs.change(run, step, command, because=f"stale in {losing}", removed=[str(each) for each in found])


def _check_winner(rulesets: Sequence[Ruleset], losing: Backend) -> None:
    """Raise Refused where the losing backend is still in use: without its rules no service would be left."""
    commands = host.get_fact(Alternatives)["value"]
    for command in commands["commands"] if commands else []:
        if command["backend"] == losing:
            raise Refused(f"{command['name']} is still {losing} here: its rules are in use")
    if has_services(rulesets, losing) and not has_services(rulesets, other(losing)):
        native = host.get_fact(NftTables)["value"]
        if losing == "nft" or not {"ip kube-proxy", "ip6 kube-proxy"} & set(native):
            raise Refused(f"kube-proxy has written no rules to {other(losing)} yet: restart it first")


def script(found: Sequence[Stale], backups: Sequence[str], hints_only: bool, run: str, undo_after: int) -> str:
    """The shell script that removes what is found, from a save that it takes itself, and checks the others' rules."""
    return step_script(
        "remove-rules.sh.j2",
        run,
        HINTS_STEP if hints_only else STEP,
        undo_after,
        about=f"remove stale rules from {found[0].backend}",
        backups=backups,
        commands=list(dict.fromkeys(each.command for each in found)),
        owned=[f"^({'|'.join(HINTS)})$"] if hints_only else [HASHED, OWNED],
        own_comment=OWN_COMMENT,
        bare=BARE,
    )

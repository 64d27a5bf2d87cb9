"""Which iptables the node's commands are: one backend for IPv4 and IPv6, on every node the same."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from pyinfra import host
from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation

from facts.alternatives import Alternatives, Backends
from facts.kernel import Kernel, KernelState, LegacyPreflight, LegacyUse
from facts.netfilter import Backend, KubeRules, Ruleset
from facts.netfilter_chains import BARE, HASHED, OWN_COMMENT, OWNED
from facts.reading import Reading
from models.refused import Refused
from models.stale_rules import kubelet_backends
from operations import runs
from operations.scripts import step_script
from operations.wave import refusal

Target = Literal["legacy", "nft", "match-kubelet", "match-majority"]
STEP = "alternatives"

#: iptables -V says one of these behind its version.
_WORDS: dict[Backend, str] = {"nft": "nf_tables", "legacy": "legacy"}
T = TypeVar("T")


@dataclass(frozen=True)
class Selection:
    """One group of alternatives that has to change: to `path`, from `was`; `auto` is whether nobody had chosen."""

    name: str
    path: str
    was: str
    auto: bool


def resolve(target: Target, rulesets: Reading[list[Ruleset]], majority: Backend | None = None) -> Backend:
    """The backend that a target means on one node. Raises Refused where that cannot be told.

    + target: "legacy", "nft", "match-kubelet" or "match-majority"
    + rulesets: the node's rules, for "match-kubelet"
    + majority: the fleet's backend, for "match-majority"
    """
    if target == "legacy" or target == "nft":
        return target
    if target == "match-majority":
        if majority is None:
            raise Refused(
                "match-majority: no backend is that of more than half of the inventory's nodes, those counted that "
                "--limit leaves out; iptables_backend can also name one"
            )
        return majority
    known = _known(rulesets, "rules")
    backends = kubelet_backends(known)
    if len(backends) != 1:
        held = "both backends hold" if backends else "neither backend holds"
        raise Refused(f"match-kubelet: {held} the kubelet's chains (KUBE-IPTABLES-HINT, KUBE-KUBELET-CANARY)")
    return backends[0]


def selections(found: Backends | None, wanted: Backend) -> list[Selection]:
    """What has to be selected so that iptables and ip6tables are this backend; empty where they are, and fixed.

    + found: the node's alternatives and commands; None for a node without iptables, which needs nothing

    A group in auto mode is selected too, where it points to the right one: an upgrade may move it. Raises Refused
    where the alternatives cannot bring it about.
    """
    if found is None:
        return []
    groups = {group["name"]: group for group in found["groups"]}
    needed: list[Selection] = []
    for command in found["commands"]:
        name = command["name"]
        group = groups.get(name)
        if group is None:
            slave = any(name in choice["slaves"] for choice in groups.get("iptables", {"choices": []})["choices"])
            if not slave and command["backend"] != wanted:
                raise Refused(
                    f"{name} is {command['path']} ({command['backend'] or 'of an unknown backend'}), and there is no "
                    f"update-alternatives group for it"
                )
            continue
        path = next((each["path"] for each in group["choices"] if each["path"].endswith(f"/{name}-{wanted}")), None)
        if path is None:
            if command["backend"] == wanted:
                continue
            known = ", ".join(choice["path"] for choice in group["choices"]) or "nothing"
            raise Refused(f"{name}: {wanted} is not registered with update-alternatives, only {known}")
        if (group["value"], group["status"]) != (path, "manual"):
            needed.append(Selection(name, path, group["value"], group["status"] == "auto"))
        elif command["backend"] != wanted:
            raise Refused(f"{name} is selected as {path}, but {command['path']} comes first in the PATH, and is not")
    return needed


def switches(found: Backends | None, wanted: Backend) -> bool:
    """Whether a command of the node is not of this backend now; False for a node without iptables."""
    return found is not None and any(command["backend"] != wanted for command in found["commands"])


def check_kernel(kernel: Reading[KernelState], preflight: Reading[list[LegacyUse]] | None) -> None:
    """Raise Refused where this kernel has no legacy iptables: built without it, or tried and failed.

    + preflight: None where it must not be tried (it may load a module)
    """
    if kernel["state"] == "value" and "not built" in (
        kernel["value"]["modules"].get("ip_tables"),
        kernel["value"]["modules"].get("ip6_tables"),
    ):
        raise Refused("this kernel is built without legacy iptables")
    if preflight is None:
        return
    for use in _known(preflight, "legacy iptables"):
        if not use["usable"]:
            raise Refused(f"this kernel has no legacy iptables for IPv{use['family']}: {use['words']}")


@operation()
def backend(
    target: Target,
    majority: Backend | None = None,
    undo_after: int = 600,
    run: str = runs.RUN,
) -> Generator[StringCommand, None, None]:
    """
    Make iptables and ip6tables the same backend, by update-alternatives, for good.

    + target: "legacy", "nft", "match-kubelet" (whose chains the kubelet writes) or "match-majority"
    + majority: the fleet's backend, for "match-majority"
    + undo_after: seconds after which the node takes the change back unless `verify.dns_answers` has confirmed it
    + run: the run's id, under which the old selections are kept on the node

    arptables and ebtables stay: neither kube-proxy nor the kubelet uses them, and their rules do not see pods' DNS.
    No rule is moved from one backend to the other: that loses what one of them cannot say. The way back returns a
    group in auto mode to auto. Legacy is tried in a network namespace of its own before anything is changed.

    **Example:**

    .. code:: python

        alternatives.backend(name="iptables is legacy", target="legacy")
    """
    try:
        rulesets = host.get_fact(KubeRules) if target == "match-kubelet" else _nothing_read()
        wanted = resolve(target, rulesets, majority)
        found = host.get_fact(Alternatives)
        backends = None if found["state"] == "empty" else _known(found, "alternatives")
        needed = selections(backends, wanted)
        if needed and wanted == "legacy":
            # The preflight may load a module, which a plan must not.
            tried = host.get_fact(LegacyPreflight) if host.state.is_executing else None
            check_kernel(host.get_fact(Kernel), tried)
    except Refused as reason:
        yield refusal(f"refused: {reason}")
        return
    if not needed or backends is None:
        host.noop(f"iptables and ip6tables are {wanted}, or not installed")
        return
    because = "; ".join(f"{each.name}: {each.was}{' (auto)' if each.auto else ''} -> {each.path}" for each in needed)
    if not host.state.is_executing:
        for each in needed:
            host.log(f"update-alternatives --set {each.name} {each.path}")
        host.log(because)
    text = script(needed, [each["name"] for each in backends["commands"]], wanted, run, undo_after)
    yield from runs.change(run, STEP, StringCommand(text), because=because)


def script(needed: Sequence[Selection], commands: Sequence[str], wanted: Backend, run: str, undo_after: int) -> str:
    """The shell script that makes the selections on the node, and goes back where a command does not follow."""
    return step_script(
        "set-alternatives.sh.j2",
        run,
        STEP,
        undo_after,
        about=f"make iptables {wanted}",
        written=[f"iptables-{wanted}", f"ip6tables-{wanted}"],
        owned=[HASHED, OWNED],
        own_comment=OWN_COMMENT,
        bare=BARE,
        groups=needed,
        commands=commands,
        word=_WORDS[wanted],
    )


def _known(reading: Reading[T], what: str) -> T:
    if reading["state"] not in ("value", "empty"):
        raise Refused(f"its {what} are not known: {reading['state']}: {reading['detail']}")
    return reading["value"]


def _nothing_read() -> Reading[list[Ruleset]]:
    return {"state": "empty", "value": [], "detail": ""}

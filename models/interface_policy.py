"""Which edit makes dnsmasq answer pods: planned and tried on the model before anything is written.

A drop-in cannot undo an except-interface that stands elsewhere (list options accumulate), so the offending option
itself is taken out where it stands, and what the policy wants is added in a file of its own. Taking out the last of
these options is never enough by itself: dnsmasq would then turn local-service on, which rejects pods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from facts.dnsmasq import Dnsmasq, Instance, ReadError
from facts.dnsmasq_lines import split_value
from facts.dnsmasq_options import ConfigError, NotAllKnown, Option, read_options
from facts.dnsmasq_unit import DEFAULTS
from models.dnsmasq import starts
from models.dnsmasq_config import Binding, Name
from models.dnsmasq_edits import (
    MANAGED,
    Edit,
    drop_argument,
    drop_default,
    drop_option,
    managed_path,
    with_block,
    with_text,
)
from models.host import Host
from models.needs import Forecast, Need, forecast, is_answered
from models.refused import Refused

POLICIES = ("except-lo", "bind-dynamic", "named")

_RULES = ("interface", "except-interface", "listen-address")
_REMOVABLE = (*_RULES, "local-service")
_BINDINGS = ("bind-interfaces", "bind-dynamic")


@dataclass(frozen=True)
class Wanted:
    """The policy for one node.

    + policy: one of POLICIES
    + interfaces: for "named": what to listen on
    + foreign: for "bind-dynamic": interface patterns that other dnsmasq processes serve
    """

    policy: str
    interfaces: tuple[str, ...]
    foreign: tuple[str, ...]

    def lines(self) -> list[str]:
        """The lines that state the policy."""
        if self.policy == "named":
            return [f"interface={name}" for name in self.interfaces]
        if self.policy == "bind-dynamic":
            return ["bind-dynamic", *(f"except-interface={name}" for name in self.foreign)]
        return ["except-interface=lo"]


@dataclass(frozen=True)
class Plan:
    """An edit that was tried on the model.

    + edits: what changes in which file, in the order in which it is written
    + argv: the command line after the restart
    + culprits: the options that are taken out
    + because: one sentence: what is wrong now
    + before, after: what the model says of both configurations
    """

    edits: tuple[Edit, ...]
    argv: tuple[str, ...]
    culprits: tuple[Option, ...]
    because: str
    before: Forecast
    after: Forecast


def plan(
    dnsmasq: Dnsmasq,
    instance: Instance,
    host: Host,
    needs: Sequence[Need],
    wanted: Wanted,
    managed: Callable[[Sequence[str]], str],
) -> Plan | None:
    """The edit that the policy needs on this node; None where every need is met and our own file is as it should be.

    + host: with the listeners of everybody but this instance
    + managed: the text of the managed file for the given lines

    Raises Refused with the reason where no edit within the policy answers pods, LAN and host over UDP and TCP, where
    it would cut off somebody who is answered now, where dnsmasq would not start, or where an edit is needed and not all
    that dnsmasq reads is known.
    """
    if error := instance["error"]:
        if error.get("certain"):
            raise Refused(f"dnsmasq would not start again: {error['message']}")
        _refuse_unless_unneeded(instance, error, host, needs)
        return None
    if not instance["unit"].endswith(".service"):
        raise Refused(f"dnsmasq (pid {instance['pid']}) was not started by a systemd unit, so nothing can restart it")
    before = forecast(instance["options"], host, needs)
    if before.start.started and not before.lost():
        return None
    if not needs:
        raise Refused("nobody is known who should be answered: no pod and no address that serves DNS on this node")
    change = _Change(dnsmasq, instance, host, tuple(needs), wanted, before, managed)
    problem = ""
    for binding in ("bind-dynamic",) if wanted.policy == "bind-dynamic" else ("", "bind-dynamic", "bind-interfaces"):
        try:
            return change.planned(binding)
        except _NotInThisMode as refusal:
            problem = problem or f"policy {wanted.policy}: {refusal}"
    raise Refused(problem)


def _refuse_unless_unneeded(instance: Instance, error: ReadError, host: Host, needs: Sequence[Need]) -> None:
    """Raises Refused where a rule keeps somebody out, and not all that dnsmasq reads is known.

    Where none of the rules that are known does, nothing tells that an edit is needed; the questions with which the run
    ends would. That local-service is on does not count: any rule that is not known turns it off.
    """
    for need, verdict in forecast(instance["options"], host, needs).lost():
        if any(culprit["name"] in _RULES for culprit in verdict.culprits):
            raise Refused(
                f"{need} is not answered: {verdict.because}; and what else dnsmasq reads is not known, so nothing can"
                f" be tried: {error['message']}"
            )


class _NotInThisMode(Refused):
    """The model says no: another bind mode may do. An edit that cannot be made is no reason to change the mode."""


@dataclass(frozen=True)
class _Problem:
    sentence: str
    culprits: tuple[Option, ...] = ()
    names: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Draft:
    """The lines to add, and what stays of the options that change, by their position: nothing, or parts of a list."""

    lines: list[str]
    kept: dict[int, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Change:
    dnsmasq: Dnsmasq
    instance: Instance
    host: Host
    needs: tuple[Need, ...]
    wanted: Wanted
    before: Forecast
    managed: Callable[[Sequence[str]], str]

    def planned(self, binding: str) -> Plan:
        """The plan that sets this bind mode ("" keeps the present one). Raises Refused."""
        options = self.instance["options"]
        draft = self._start(binding)
        while problem := self._problem(forecast(_drafted(options, draft), self.host, self.needs)):
            found = [index for culprit in problem.culprits if (index := _origin(options, draft, culprit)) is not None]
            if not found:
                raise _NotInThisMode(problem.sentence)
            for index in found:
                draft.kept[index] = _harmless(options[index], draft.kept.get(index), problem.names)
        return self._realised(draft)

    def _start(self, binding: str) -> _Draft:
        lines = self.wanted.lines()
        if not binding:
            return _Draft(lines)
        lines = [line for line in lines if line != binding]
        given = [index for index, option in enumerate(self.instance["options"]) if option["name"] in _BINDINGS]
        if self.before.configuration.binding is Binding(binding) and len(given) == 1:
            return _Draft(lines)
        return _Draft([binding, *lines], {index: [] for index in given})

    def _problem(self, after: Forecast) -> _Problem | None:
        if not after.start.started:
            return _Problem(f"dnsmasq would not start: {after.start.because}", after.start.culprits)
        at_boot = starts(after.configuration, self.host.at_boot())
        if not at_boot.started and starts(self.before.configuration, self.host.at_boot()).started:
            sentence = f"dnsmasq would not start at boot, before the pods' network is there: {at_boot.because}"
            return _Problem(sentence, at_boot.culprits)
        for need, verdict in after.verdicts:
            if is_answered(verdict):
                continue
            if need.required:
                sentence = f"{need} would not be answered: {verdict.because}"
            elif need in self.before.answered():
                sentence = f"{need} is answered now and would not be any more: {verdict.because}"
            else:
                continue
            owner = self.host.owner(need.query.destination)
            names = {need.query.arrival, *((owner.interface, owner.label) if owner else ())}
            return _Problem(sentence, verdict.culprits, frozenset(names - {""}))
        return None

    def _realised(self, draft: _Draft) -> Plan:
        """The draft as edits of files, read again as dnsmasq would read them."""
        options, files, version = self.instance["options"], self.dnsmasq["files"], self.dnsmasq["version"]
        argv, lines = list(self.instance["argv"]), list(draft.lines)
        texts: dict[str, str] = {}
        try:
            for index, rest in draft.kept.items():
                option = options[index]
                path = option["file"] or DEFAULTS
                if path not in files:
                    raise Refused(f"{option['name']} is on the command line, and {DEFAULTS} does not exist")
                text = texts.get(path, files[path]["content"])
                if option["file"]:
                    texts[path] = drop_option(text, option, rest)
                else:
                    argv, words = drop_argument(argv, with_text(files, texts), option, version)
                    texts[path] = drop_default(text, words)
                    lines += [f"{option['name']}={part}" for part in rest]
            path = managed_path(argv, with_text(files, texts), version) or self.instance["files"][-1]
            text = self.managed(lines)
            if not path.endswith(f"/{MANAGED}"):
                text = with_block(texts.get(path, files[path]["content"]), text)
            texts[path] = text
            after, _ = read_options(argv, with_text(files, texts), version)
        except (ConfigError, NotAllKnown, ValueError, IndexError) as error:
            raise Refused(f"no edit was found that dnsmasq would read: {error}") from error
        outcome = forecast(after, self.host, self.needs)
        if problem := self._problem(outcome):
            raise Refused(problem.sentence)
        edits = [
            Edit(
                path,
                files[path]["content"] if path in files and files[path]["kind"] == "file" else None,
                text,
            )
            for path, text in texts.items()
        ]
        culprits = tuple(options[index] for index in draft.kept)
        return Plan(tuple(edits), tuple(argv), culprits, self._because(), self.before, outcome)

    def _because(self) -> str:
        if not self.before.start.started:
            return f"dnsmasq does not start: {self.before.start.because}"
        need, verdict = self.before.lost()[0]
        return f"{need} is not answered: {verdict.because}"


def _harmless(option: Option, kept: list[str] | None, names: frozenset[str]) -> list[str]:
    """What may stay of an except-interface list: the patterns that match none of these interfaces."""
    if option["name"] != "except-interface":
        return []
    parts = split_value(option["value"]) if kept is None else kept
    rest = [part for part in parts if not any(Name(part, option).matches(name) for name in names)]
    return rest if len(rest) < len(parts) else []


def _origin(options: Sequence[Option], draft: _Draft, culprit: Option) -> int | None:
    """The position of the given option that shows up as this one in the draft; None for a line of ours."""
    if culprit["name"] not in _REMOVABLE:
        return None
    for index, option in enumerate(options):
        if index not in draft.kept and option == culprit:
            return index
        if draft.kept.get(index) and {**option, "value": ",".join(draft.kept[index])} == culprit:
            return index
    return None


def _drafted(options: Sequence[Option], draft: _Draft) -> list[Option]:
    left: list[Option] = []
    for index, option in enumerate(options):
        if index not in draft.kept:
            left.append(option)
        elif draft.kept[index]:
            left.append({**option, "value": ",".join(draft.kept[index])})
    for number, line in enumerate(draft.lines, 1):
        name, equals, value = line.partition("=")
        left.append({"name": name, "value": value if equals else None, "file": MANAGED, "line": number})
    return left

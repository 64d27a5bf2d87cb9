"""Ask from many nodes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from pyinfra.api.facts import get_fact
from pyinfra.api.host import Host

from facts.parallel import each
from facts.snapshot import deadline
from probes.carry import longest
from probes.dns import Answers
from probes.probe import Probe, Result

#: Seconds that one node's probes may take altogether, over SSH.
TIMEOUT = 180


def answers(questions: Mapping[Host, Sequence[Probe]]) -> dict[str, list[Result]]:
    """What each host's probes saw, by host name, one exec per host; no results where a host did not answer at all."""
    found: dict[str, list[Result]] = {host.name: [] for host in questions}
    asking = [host for host, probes in questions.items() if probes]
    return found | each(asking, lambda host: _ask(host, questions[host]))


def _ask(host: Host, probes: Sequence[Probe]) -> list[Result]:
    # A node that says nothing for longer than its questions can take, and no answer comes, holds up all others.
    try:
        results = get_fact(
            host.state,
            host,
            Answers,
            kwargs={"probes": list(probes), "_timeout": min(TIMEOUT, longest(probes) + deadline(host))},
            apply_failed_hosts=False,
        )
    except Exception as error:
        host.log(f"could not be asked from: {error}")
        return []
    return cast("list[Result]", results or [])

"""Ask from many nodes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import gevent.pool
from pyinfra.api.facts import get_fact
from pyinfra.api.host import Host

from probes.dns import Answers
from probes.probe import Probe, Result

#: Seconds that one node's probes may take altogether, over SSH.
TIMEOUT = 180


def answers(questions: Mapping[Host, Sequence[Probe]]) -> dict[str, list[Result]]:
    """What each host's probes saw, by host name, one exec per host; no results where a host did not answer at all."""
    asking = [host for host, probes in questions.items() if probes]
    found: dict[str, list[Result]] = {host.name: [] for host in questions}
    if asking:
        pool = gevent.pool.Pool(min(len(asking), asking[0].state.config.PARALLEL))
        for host, results in zip(asking, pool.map(lambda host: _ask(host, questions[host]), asking), strict=True):
            found[host.name] = results
    return found


def _ask(host: Host, probes: Sequence[Probe]) -> list[Result]:
    try:
        results = get_fact(
            host.state,
            host,
            Answers,
            kwargs={"probes": list(probes), "_timeout": TIMEOUT},
            apply_failed_hosts=False,
        )
    except Exception as error:
        host.log(f"could not be asked from: {error}")
        return []
    return cast("list[Result]", results or [])

"""The fact that asks: every probe of a node in one exec.

results = host.get_fact(Answers, probes=[probe("172.25.4.1", "zju.edu.cn", protocol="tcp")])
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from pyinfra.api.exceptions import FactProcessError
from pyinfra.api.facts import FactBase

from probes.carry import RATE, carry
from probes.probe import Probe, Result
from probes.read import probes_of, read


class Answers(FactBase[list[Result]]):
    """Asks the probes on the node, and returns one result per probe.

    + probes: the probes, or the same as JSON
    + rate: tries that it begins in a second, at most

    A node that answers nothing at all fails this fact; a probe that could not be sent does not, its tries are
    `not sent`. Needs root for a source with a network namespace of its own. An answered try:

    .. code:: python

        {
            "outcome": "answered",
            "rtt_ms": 0.412,
            "rcode": "NOERROR",
            "answers": ["10.203.4.70"],
            "detail": "",
        }
    """

    asked: Sequence[Probe] | None = None

    @staticmethod
    def default() -> list[Result]:
        return []

    def command(self, probes: str | Sequence[Probe], rate: int = RATE) -> str:
        self.asked = json.loads(probes) if isinstance(probes, str) else probes
        return carry(self.asked, rate)

    def process(self, output: Iterable[str]) -> list[Result]:
        lines = list(output)
        told = probes_of(lines)
        if told is None:
            raise FactProcessError("the node printed something else than the probes' output")
        # What was asked is known here: a node that tells of other questions answers none of these.
        return read(told if self.asked is None else self.asked, lines)

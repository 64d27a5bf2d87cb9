"""The questions that a node has to forward: those of its pods to somebody else."""

from __future__ import annotations

from checks.case import Case
from probes.count import sent
from probes.probe import Result


def crossing(case: Case) -> list[Result]:
    """Questions from pods to others than the node itself. kube-ipvs0 has addresses of services: those pass on."""
    local = {
        address["address"]
        for one in case.snapshot["interfaces"]["value"]
        if one["name"] != "kube-ipvs0"
        for address in one["addresses"]
    }
    return [
        result
        for result in case.results
        if result["probe"]["source"]["netns"] and result["probe"]["destination"] not in local and sent(result)
    ]

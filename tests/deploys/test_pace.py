"""Changes do not go back while they wait for their proof: what is asked of pyinfra, and the run that is not begun."""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api.exceptions import PyinfraError

from deploys import pace, rollout, shards_fix
from deploys import policy as policies
from deploys.asked import Asked
from deploys.rollout import NodeChange
from facts import connecting
from models.kube_services import Endpoints
from operations.wave import Wave
from tests.checks import kube_fleet
from tests.conftest import ROOT
from tests.deploys.wanted import policy

IN_WAVES = ("fix_dns", "onboard", "prevent", "undo")
NOTHING = NodeChange()
CHANGE: Any = NodeChange(dnsmasq=["an edit"])  # type: ignore[list-item]
ENDPOINTS: Endpoints = {}


def too_slow(count: int, parallel: int = connecting.PARALLEL, broken: int | None = None, **changed: Any) -> str:
    """Of a fleet like the recorded one, whose first nodes are broken: all of them, if not said."""
    names = [f"n{number}" for number in range(count)]
    changes = {name: CHANGE if broken is None or number < broken else NOTHING for number, name in enumerate(names)}
    wanted, read = policy(dns_services=(kube_fleet.VIP,), **changed), kube_fleet.node()
    order = rollout.in_waves(changes, wanted)
    return rollout.too_slow(
        changes, order, dict.fromkeys(names, wanted), dict.fromkeys(names, read), ENDPOINTS, parallel
    )


@pytest.mark.parametrize("count", [1, 5, 200, 1000, 1200, 2000, 5000])
def test_the_policy_as_it_comes_is_refused_nowhere_where_it_works(count: int) -> None:
    assert too_slow(count) == ""
    assert too_slow(count, broken=1) == ""


def test_a_few_at_a_time_behind_a_bastion() -> None:
    assert too_slow(250, parallel=10) == ""
    assert too_slow(1000, parallel=10) == ""
    refused = too_slow(1500, parallel=10)
    assert refused.startswith("Wave 2 of 6: of its 300 nodes, 10 at once, some would wait about ")
    assert all(word in refused for word in ("180 s (undo_after)", "wave_nodes", "--parallel"))
    assert too_slow(1500, parallel=10, wave_nodes=100) == ""
    assert too_slow(1500, parallel=10, undo_after=600) == ""


def test_a_wave_too_large_for_200_at_a_time() -> None:
    """200 nodes ask one service 160 times each, 1000 a second: five turns of 32 s come round in time, six do not."""
    for nodes, refused in ((1000, False), (1001, True)):
        wave = Wave(2, 6, tuple(f"n{number}" for number in range(nodes)))
        assert bool(pace.too_slow(wave, 200, 180, [32.0], 2.0)) == refused
    assert "of its 2000 nodes, 200 at once" in too_slow(10_000)
    assert too_slow(10_000, broken=100) == ""


def test_questions_that_take_longer_than_the_timer() -> None:
    refused = too_slow(1, probe_tries=200, probe_rate=10)
    assert refused.startswith("Wave 1 of 1: of its 1 nodes, 1 at once") and "probe_tries" in refused
    assert too_slow(1, probe_tries=200) == ""


def test_what_no_timer_takes_back_is_not_hurried() -> None:
    wave = Wave(1, 1, tuple(f"n{number}" for number in range(1500)))
    flushed = NodeChange(asked=Asked(flush=True))
    for change, refused in ((flushed, False), (CHANGE, True)):
        changes = dict.fromkeys(wave.nodes, change)
        wanted, fleet = dict.fromkeys(wave.nodes, policy()), dict.fromkeys(wave.nodes, kube_fleet.node())
        assert bool(rollout.too_slow(changes, [wave], wanted, fleet, ENDPOINTS, 10)) == refused


def test_who_waits_longest() -> None:
    assert pace.waiting(1, 200, [4.0]) == 4
    assert pace.waiting(200, 200, [4.0, 30.0]) == 30
    # The first nodes wait for the changes of those after them, or the last ones for the proofs of those before them.
    assert pace.waiting(30, 10, [4.0]) == 2 * pace.CHANGE + 4
    assert pace.waiting(30, 10, [20.0]) == 3 * 20


def test_a_fix_over_shards_is_not_begun_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker is asked to change anything; the nodes of one worker wait for each other, not for those of others."""
    names = [f"n{number}" for number in range(20)]
    wanted = policy(undo_after=30, wave_nodes=20, probe_rate=80)
    said = {"fleet": dict.fromkeys(names, kube_fleet.node()), "endpoints": {}, "policies": dict.fromkeys(names)}
    monkeypatch.setattr(policies, "of_values", lambda values: wanted)
    monkeypatch.setattr(rollout, "needed", lambda *_: (dict.fromkeys(names, CHANGE), []))

    def ask(*_: object) -> dict[str, Any]:
        asked.append("asked")
        return {"nodes": [], "said": None, "log": "", "code": 0}

    monkeypatch.setattr(shards_fix, "_ask", ask)
    for parts, refused in (([names], True), ([[name] for name in names], False)):
        asked: list[str] = []
        answers = [{"nodes": names, "said": said, "log": "", "code": 0}]
        shards: Any = SimpleNamespace(parts=parts, each=lambda what, answers=answers: answers)
        if refused:
            with pytest.raises(PyinfraError, match=r"stopped before any change: Wave 2 .*undo_after.*on any node\.$"):
                shards_fix.fix(shards)
        else:
            assert shards_fix.fix(shards)
        assert bool(asked) != refused


@pytest.mark.parametrize("deploy", IN_WAVES)
def test_the_operations_of_a_wave_are_one_batch(deploy: str) -> None:
    """All but the gate, which does nothing on a node."""
    text = (ROOT / f"deploys/{deploy}.py").read_text()
    loops = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.For)]
    (wave,) = [loop for loop in loops if ast.unparse(loop.iter) == "host.loop(plan.waves)"]
    calls = [call for call in ast.walk(wave) if isinstance(call, ast.Call)]
    operations = {
        ast.unparse(call.func): {word.arg: ast.unparse(word.value) for word in call.keywords}
        for call in calls
        if any(word.arg == "name" for word in call.keywords)
    }
    assert operations.pop("gate") and operations
    assert {name for name, words in operations.items() if words.get("_parallel") != "together"} == set()
    assert "together = one_batch(state)" in text

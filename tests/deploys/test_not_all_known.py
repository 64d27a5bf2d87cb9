"""A dnsmasq that reads what cannot be known holds nobody up, on real nodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.api import Lab
from tests.conftest import Run
from tests.deploys.nodes import dnsmasq_start, served

pytestmark = pytest.mark.lab

SCRIPT = "/usr/local/bin/names"
LINE = f"conf-script={SCRIPT}\n"


@pytest.fixture
def scripted(healed: Lab) -> Lab:
    """node-1's dnsmasq reads the output of a script, too."""
    node = healed.node("node-1")
    healed.record.faults.setdefault("node-1", []).append("a script writes a part of dnsmasq's configuration")
    node.write(SCRIPT, "#!/bin/sh\necho address=/old.example.com/172.25.4.9\n")
    node.run(["chmod", "755", SCRIPT])
    node.write("/etc/dnsmasq.d/40-names.conf", LINE)
    node.run(["systemctl", "restart", "dnsmasq.service"])
    return healed


def test_it_is_unknown_and_the_others_are_repaired(scripted: Lab, pyinfra: Run, tmp_path: Path) -> None:
    scripted.inject("dnsmasq-except-cilium", "node-0")
    pyinfra("-y", "inventory", "deploys/diagnose.py", "--data", f"json={tmp_path}/seen.json")
    seen = json.loads((tmp_path / "seen.json").read_text())
    (finding,) = (one for one in seen["findings"] if (one["check"], one["node"]) == ("DNSMASQ-002", "node-1"))
    assert finding["status"] == "unknown"
    assert f"the output of {SCRIPT} is part of the configuration" in finding["sentence"]
    assert not any("node-1" in verdict["sentence"] for verdict in seen["verdicts"])

    before = dnsmasq_start(scripted.node("node-1"))
    done = pyinfra("inventory", "deploys/fix_dns.py", "-y")
    assert done.returncode == 0, done.stderr
    assert all(served(scripted.node("node-0")).values())
    assert dnsmasq_start(scripted.node("node-1")) == before


def test_it_is_refused_where_its_own_files_would_have_to_change(scripted: Lab, pyinfra: Run) -> None:
    for name in ("node-0", "node-1"):
        scripted.inject("dnsmasq-except-cilium", name)
    scripted.node("node-1").write("/etc/dnsmasq.d/40-names.conf", LINE)
    before = [dnsmasq_start(node) for node in scripted.nodes]
    done = pyinfra("inventory", "deploys/fix_dns.py", "-y")
    assert done.returncode == 1
    assert "except-interface=cilium_* (/etc/dnsmasq.d/k8s.conf:14)" in done.stderr
    assert "what else dnsmasq reads is not known, so nothing can be tried: the output of" in done.stderr
    assert "would not start" not in done.stderr
    assert [dnsmasq_start(node) for node in scripted.nodes] == before


def test_a_large_list_of_names_is_in_nobodys_way(healed: Lab, pyinfra: Run, tmp_path: Path) -> None:
    node = healed.node("node-0")
    healed.inject("dnsmasq-except-cilium", "node-0")
    listed = "".join(f"address=/blocked-{number}.example.com/0.0.0.0\n" for number in range(9000))
    node.write("/etc/dnsmasq.d/40-blocked.conf", f"# Not to be found.\n{listed}")
    done = pyinfra("inventory", "deploys/fix_dns.py", "-y")
    assert done.returncode == 0, done.stderr
    assert all(served(node).values())
    assert node.run(["dig", "+short", "@172.25.4.1", "blocked-8999.example.com"]).stdout == "0.0.0.0\n"
    pyinfra("-y", "inventory", "deploys/diagnose.py", "--data", f"json={tmp_path}/seen.json")
    seen = json.loads((tmp_path / "seen.json").read_text())
    (finding,) = (one for one in seen["findings"] if (one["check"], one["node"]) == ("DNSMASQ-002", "node-0"))
    assert finding["status"] == "pass"

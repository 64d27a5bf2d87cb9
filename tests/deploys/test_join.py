"""A node's first days: refused, brought to the policy, certified, guarded; then its package manager flips iptables.

The package is the one that the node has, packed again with its own scripts, so that apt-get needs no network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.api import Lab
from lab.faults import stand_ins
from lab.places import Node
from tests.conftest import Run
from tests.deploys.test_gate import choose, gate
from tests.operations.rules import clear
from tests.operations.test_guards import backend, errors, metrics, within

pytestmark = pytest.mark.lab

LEGACY = ("--data", "iptables_backend=legacy")
NEW = ("--data", 'new_nodes=["node-2"]')
DRIFT = "DRIFT node-2: iptables is legacy\n"
DEB = "/var/tmp/iptables.deb"
PACK = f"""
top=$(mktemp -d) && mkdir "$top/DEBIAN"
dpkg-query --status iptables | sed /^Status:/d > "$top/DEBIAN/control"
for script in postinst prerm; do cp "/var/lib/dpkg/info/iptables.$script" "$top/DEBIAN/$script"; done
dpkg-query --listfiles iptables | while read -r path; do
    if [ -d "$path" ] && [ ! -L "$path" ]; then mkdir -p "$top$path"
    elif [ -e "$path" ] || [ -L "$path" ]; then cp --archive --parents "$path" "$top"; fi
done
chmod 755 "$top" && dpkg-deb --root-owner-group --build "$top" {DEB}
rm -r "$top"
"""


def apt(node: Node, *arguments: str) -> None:
    node.run(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "--yes", *arguments])


def alternative(node: Node) -> str:
    """ "auto nft": whose choice iptables is, and what it is."""
    said = node.run(["update-alternatives", "--query", "iptables"]).stdout
    found = dict(re.findall(r"^(Status|Value): (.*)$", said, re.MULTILINE))
    return f"{found['Status']} {found['Value'].rpartition('-')[2]}"


@pytest.fixture
def new(healed: Lab) -> Iterator[Node]:
    """node-2 as Debian installs it, beside two nodes whose iptables was chosen to be legacy."""
    node = healed.node("node-2")
    for name in ("node-0", "node-1"):
        choose(healed.node(name), "legacy")
    clear(node)
    node.run(["sh", "-ec", PACK])
    yield node
    stand_ins.no_kube_proxy(node)
    node.run(["rm", "-f", DEB])
    clear(node)
    for each in healed.nodes:
        each.run(["sh", "-c", "for name in iptables ip6tables; do update-alternatives --auto $name; done"])


def guard(node: Node, pyinfra: Run) -> None:
    done = pyinfra("-y", "--limit", node.name, "inventory", "deploys/prevent.py", *LEGACY)
    assert done.returncode == 0, done.stderr
    assert within(60, lambda: backend(node) == (1, 0, 0, 0))


def failed(node: Node) -> bool:
    return node.run(["systemctl", "is-failed", "dnsmend-backend"], check=False).stdout.strip() == "failed"


def now(node: Node) -> str:
    return node.run(["date", "+%s.%6N"]).stdout.strip()


def drift() -> tuple[int, str]:
    done = gate("inventory", "--limit", "node-2", *LEGACY)
    return done.returncode, done.stdout + done.stderr


def test_refused_brought_to_policy_certified_and_seen_when_the_package_flips_it(
    new: Node, pyinfra: Run, tmp_path: Path
) -> None:
    report = tmp_path / "certificate.json"
    look = ("-y", "inventory", "deploys/onboard.py", *NEW, "--data", f"json={report}")
    assert alternative(new) == "auto nft"
    refused = pyinfra(*look)
    assert refused.returncode == 1, refused.stderr
    assert "REFUSED node-2 must not join: iptables is nft, ip6tables is nft; the cluster has legacy" in refused.stderr
    assert len(json.loads(report.read_text())["verdicts"]) == 1

    enforced = pyinfra("inventory", "deploys/onboard.py", "-y", *NEW, "--data", "enforce=true")
    assert enforced.returncode == 0 and "CERTIFIED node-2 may join" in enforced.stderr, enforced.stderr
    assert alternative(new) == "manual legacy"
    certified = pyinfra(*look)
    assert certified.returncode == 0, certified.stderr
    assert json.loads(report.read_text())["verdicts"] == []

    stand_ins.kube_proxy(new)
    guard(new, pyinfra)
    assert drift()[0] == 0

    # The same package once more: what a person chose stays, and the guard, which looks at once, has nothing to say.
    since = now(new)
    apt(new, "install", "--reinstall", DEB)
    assert alternative(new) == "manual legacy"
    assert within(60, lambda: metrics(new, "backend")[LAST_RUN] >= float(since))
    assert backend(new) == (1, 0, 0, 0) and errors(new, "dnsmend-backend", since) == []

    # Removed and installed: the choice is forgotten, and the package's priorities decide.
    since = now(new)
    apt(new, "remove", "iptables")
    apt(new, "install", DEB)
    assert alternative(new) == "auto nft"
    assert within(60, lambda: failed(new) and backend(new) == (0, 6, 0, 0)), backend(new)
    said = errors(new, "dnsmend-backend", since)
    assert any(
        re.search(r"iptables is nft \(\S+\); it was legacy when this guard was installed", each) for each in said
    )
    assert "dnsmend: the alternative iptables is in auto mode; it had been chosen by hand" in said
    code, words = drift()
    assert code == 2 and DRIFT in words, words

    fixed = pyinfra("--limit", new.name, "inventory", "deploys/fix_dns.py", "-y", *LEGACY)
    assert fixed.returncode == 0, fixed.stderr
    assert alternative(new) == "manual legacy"
    assert within(60, lambda: not failed(new) and backend(new) == (1, 0, 0, 0)), backend(new)
    assert drift()[0] == 0


LAST_RUN = 'dnsmend_guard_last_run_timestamp_seconds{stage="backend"}'


def test_a_reinstallation_flips_what_nobody_chose(new: Node, pyinfra: Run) -> None:
    """Legacy because nft was taken out of the group: the package puts it back, and its priority is the higher one."""
    for name in ("iptables", "ip6tables"):
        new.run(["update-alternatives", "--remove", name, f"/usr/sbin/{name}-nft"])
    assert alternative(new) == "auto legacy"
    stand_ins.kube_proxy(new)
    guard(new, pyinfra)
    since = now(new)
    apt(new, "install", "--reinstall", DEB)
    assert alternative(new) == "auto nft"
    assert within(60, lambda: failed(new) and backend(new)[1] > 0), backend(new)
    assert any(
        "the alternative ip6tables is /usr/sbin/ip6tables-nft; it was" in each
        for each in errors(new, "dnsmend-backend", since)
    )
    code, words = drift()
    assert code == 2 and DRIFT in words, words

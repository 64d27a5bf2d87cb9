"""A run that must not begin."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host

from deploys.asked import Asked
from deploys.exits import Exit
from deploys.refusals import stop_if_out_of_order
from deploys.rollout import NodeChange, boot_refusals
from models.kernel_settings import CONNTRACK_MAXIMUM
from operations.sysctl import FILE
from tests.conftest import Run

IN_WAVES = ["deploys/fix_dns.py", "deploys/undo.py", "deploys/onboard.py", "./deploys/prevent.py"]


@pytest.mark.parametrize("flag", ["--no-wait", "--serial"])
def test_a_run_without_waves_ends_before_it_connects(pyinfra: Run, flag: str) -> None:
    done = pyinfra("-y", flag, "192.0.2.1", "deploys/fix_dns.py")
    assert done.returncode == Exit.NOT_WELL
    assert f"{flag}: deploys/fix_dns.py changes nodes wave by wave" in done.stderr
    assert "192.0.2.1" not in done.stderr


@pytest.mark.parametrize("flag", ["--no-wait", "--serial"])
@pytest.mark.parametrize("deploy", IN_WAVES)
def test_every_deploy_that_changes_in_waves_refuses(flag: str, deploy: str) -> None:
    with pytest.raises(PyinfraError, match="wave by wave"):
        stop_if_out_of_order(["pyinfra", "inventory", deploy, flag])
    stop_if_out_of_order(["pyinfra", "inventory", deploy, "-y", "--parallel", "1"])


def test_a_file_that_takes_a_setting_back_at_boot_stops_the_run() -> None:
    """A table that is full gets more room, and loses it again at the next boot."""

    def host(name: str, file: str) -> Host:
        line = {"name": CONNTRACK_MAXIMUM, "value": "65536", "file": f"/etc/sysctl.d/{file}", "line": 3}
        state = SimpleNamespace(config=SimpleNamespace(PARALLEL=2))
        return cast(
            Host, SimpleNamespace(name=name, state=state, get_fact=lambda _: {"state": "value", "value": [line]})
        )

    full = NodeChange(asked=Asked(settings={CONNTRACK_MAXIMUM: "262144"}))
    hosts = [host("node-0", "99-cis.conf"), host("node-1", "50-cis.conf"), host("node-2", "99-cis.conf")]
    assert boot_refusals(hosts, {"node-0": full, "node-1": full, "node-2": NodeChange()}) == [
        f"node-0: /etc/sysctl.d/99-cis.conf:3 sets {CONNTRACK_MAXIMUM} = 65536 at every boot, after {FILE}: it has to"
        " be 262144 there as well, or not to be there"
    ]


@pytest.mark.parametrize("deploy", ["deploys/diagnose.py", "deploys/verify.py", "deploys/privileges.py"])
def test_what_knows_no_wave_may(deploy: str) -> None:
    stop_if_out_of_order(["pyinfra", "inventory", deploy, "--no-wait", "--serial"])

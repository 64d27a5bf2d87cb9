"""A run that must not begin."""

from __future__ import annotations

import pytest
from pyinfra.api.exceptions import PyinfraError

from deploys.exits import Exit
from deploys.refusals import stop_if_out_of_order
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


@pytest.mark.parametrize("deploy", ["deploys/diagnose.py", "deploys/verify.py", "deploys/privileges.py"])
def test_what_knows_no_wave_may(deploy: str) -> None:
    stop_if_out_of_order(["pyinfra", "inventory", deploy, "--no-wait", "--serial"])

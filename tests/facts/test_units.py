"""Unit states, as systemd 252 told them."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from facts.units import FOLDERS, Unit, Units

Sample = Callable[[str], list[str]]


def units(lines: list[str]) -> dict[str, Unit]:
    return {unit["unit"]: unit for unit in Units().read(lines)}


def test_only_units_that_the_node_has(sample: Sample) -> None:
    assert list(units(sample("units.txt"))) == [
        "dnsmasq.service",
        "systemd-resolved.service",
        "unbound.service",
        "systemd-networkd.service",
        "nftables.service",
    ]


def test_a_running_unit(sample: Sample) -> None:
    assert units(sample("units.txt"))["systemd-resolved.service"] == {
        "unit": "systemd-resolved.service",
        "load": "loaded",
        "active": "active",
        "sub": "running",
        "result": "success",
        "file_state": "enabled",
        "main_pid": 56,
        "restarts": 0,
        "active_since": "Sun 2026-11-22 00:21:49 UTC",
        "active_since_us": 1572509032,
        "started_us": 1572461869,
        "fragment": "/lib/systemd/system/systemd-resolved.service",
        "drop_ins": [],
    }


def test_a_failed_and_a_masked_unit(sample: Sample) -> None:
    found = units(sample("units.txt"))
    dnsmasq, unbound = found["dnsmasq.service"], found["unbound.service"]
    assert (dnsmasq["active"], dnsmasq["result"], dnsmasq["main_pid"]) == ("failed", "exit-code", None)
    assert (unbound["load"], unbound["active"], unbound["file_state"]) == ("masked", "inactive", "masked")


def test_an_alias_is_the_same_unit_and_properties_may_be_missing() -> None:
    block = ["Id=named.service", "LoadState=loaded", "ActiveState=active", "SubState=running", "DropInPaths=/a /b"]
    assert [(u["unit"], u["restarts"], u["drop_ins"]) for u in Units().read([*block, "", *block])] == [
        ("named.service", 0, ["/a", "/b"])
    ]


def test_without_systemd_the_tool_is_missing() -> None:
    fact = Units()
    command = fact.command()
    if Path("/run/systemd/system").exists():
        command = command.replace("/run/systemd/system", "/run/systemd/no-such-folder")
    answer = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    reading = fact.process(answer.stdout.splitlines())
    assert (reading["state"], reading["value"]) == ("tool missing", [])
    assert reading["detail"] == "systemd does not run here"


def test_systemd_is_asked_of_what_it_has_loaded_and_of_what_has_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "units"
    folder.mkdir()
    (folder / "unbound.service").touch()
    (folder / "nscd.service").symlink_to("/nonexistent")
    (folder / "unrelated.service").touch()
    (tmp_path / "systemctl").write_text(
        """#!/bin/sh
case "$1" in
    list-units)
        echo "  dnsmasq@lan.service loaded active running Not of k3s.service"
        echo "* named.service     loaded failed failed  BIND" ;;
    show)
        shift 4
        for unit; do printf 'Id=%s\\nLoadState=loaded\\nActiveState=active\\nSubState=running\\n\\n' "$unit"; done ;;
esac
"""
    )
    (tmp_path / "systemctl").chmod(0o755)
    fact = Units()
    script = fact.script.replace("/run/systemd/system ]", "/run ]")
    for path in FOLDERS:
        script = script.replace(f" {path} ", f" {folder} ").replace(f" {path};", f" {folder};")
    fact.script = f"PATH={tmp_path}:$PATH\n{script}"
    answer = subprocess.run(["sh", "-c", fact.command()], capture_output=True, text=True, check=True)
    reading = fact.process(answer.stdout.splitlines())
    assert [unit["unit"] for unit in reading["value"]] == [
        "unbound.service",
        "named.service",
        "nscd.service",
        "dnsmasq@lan.service",
    ]


def test_systemd_that_does_not_answer_is_no_node_without_units(tmp_path: Path) -> None:
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho 'Failed to connect to bus: Connection refused' >&2; exit 1\n")
    (tmp_path / "systemctl").chmod(0o755)
    fact = Units()
    fact.script = f"PATH={tmp_path}:$PATH\n" + fact.script.replace("/run/systemd/system ]", "/run ]")
    answer = subprocess.run(["sh", "-c", fact.command()], capture_output=True, text=True, check=True)
    reading = fact.process(answer.stdout.splitlines())
    assert (reading["state"], reading["detail"]) == ("failed", "Failed to connect to bus: Connection refused")

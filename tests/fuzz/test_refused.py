"""What is wrong in a file of somebody's: one sentence that names the place, in time, and nothing lost."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from pyinfra.api.exceptions import InventoryError, PyinfraError

from deploys import bundle
from deploys.policy_rules import RULES
from deploys.shape import misfit
from facts.kube_proxy_answer import _from_file
from facts.netfilter import Save
from facts.reading import Reading, sections
from facts.snapshot import NodeSnapshot
from inventories import ansible_ini, ansible_yaml, kubectl
from inventories.ansible_tree import expand, flatten
from probes.dns import Answers
from probes.probe import probe
from reports import json_report
from tests.conftest import Run
from tests.fuzz.targets import SEEDS
from tests.fuzz.test_targets import ending

ROOT = Path(__file__).resolve().parent.parent.parent

#: A few lines that stand for more than any memory holds.
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {k: v}\n" + "".join(
    f"b{number}: &b{number} {{<<: [*{before}, *{before}], k{number}: v}}\n"
    for number, before in enumerate(["a", *(f"b{one}" for one in range(40))])
)
GROUPS = "g: &g {hosts: {h: {}}}\n" + "".join(
    f"g{number}: &g{number} {{children: {{a: *{before}, b: *{before}}}}}\n"
    for number, before in enumerate(["g", *(f"g{one}" for one in range(40))])
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"all:\n  hosts: {{{'[' * 5000}", "hosts:2: this is not YAML"),
        ("all:\n  hosts: \x07\n", "hosts:2: a character that YAML does not allow"),
        ("all: &a\n  children:\n    x: *a\n", "hosts:3: x: groups more than 50 deep, or in themselves"),
        (f"{GROUPS}all: *g40\n", "hosts:"),
        (f"{LAUGHS}all:\n  hosts: *i\n", "hosts:11: all.hosts holds what is no host's name"),
        (f"{LAUGHS}? *i\n: x\n", "hosts:9: a key that is no word"),
        (f"{MERGES}all:\n  hosts:\n    h: *b40\n", "hosts:1: more than 200000 entries, those of aliases counted"),
        ("[1, 2]\n", "hosts: no inventory: groups are expected at its top"),
    ],
)
def test_an_inventory_in_yaml(text: str, sentence: str) -> None:
    with ending(), pytest.raises(ValueError) as refused:
        flatten(ansible_yaml.read(text, "hosts"), {}, {})
    assert sentence in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("value", ["!unsafe [a]", "2026-99-99", "!!set {[a]: x}"])
def test_a_host_with_a_value_that_is_none(value: str) -> None:
    tree = ansible_yaml.read(f"all:\n  hosts:\n    h: {{v: {value}}}\n    i: {{}}\n", "hosts")
    assert [*tree.hosts] == ["i"] and [(note.place, note.key) for note in tree.notes] == [("hosts:3", "h")]


def test_a_value_of_a_few_lines_that_would_never_be_written_out() -> None:
    with ending():
        found = ansible_yaml.variables(f"{LAUGHS}ansible_host: *i\n", "all.yml")
    assert found["ansible_host"].place == "all.yml:10"


def test_ranges_in_ranges() -> None:
    with ending(), pytest.raises(ValueError, match="more than 10000 hosts"):
        list(expand("n[1:9999]-[1:9999]-[1:9999]"))
    with ending():
        tree = ansible_ini.read("[all]\nn[1:9999]-[1:9999]\nfine\n" + "m[0000:9999]\n", "hosts")
    assert tree.notes[0].place == "hosts:2" and "fine" in tree.hosts and "m9999" in tree.hosts
    assert not any(name.startswith("n") for name in tree.hosts)


@pytest.mark.parametrize(
    "said", [None, [], {"kind": "List", "items": 7}, {"kind": "List", "items": [7, {"metadata": []}, {"status": 7}]}]
)
def test_a_list_of_nodes(said: object) -> None:
    try:
        made, notes = kubectl.translate(said, "nodes.json")
    except InventoryError as error:
        assert str(error).startswith("nodes.json: ")
    else:
        assert made == {"all": []} and [note.place for note in notes] == [f"nodes.json: items[{n}]" for n in range(3)]


@pytest.mark.parametrize(("text", "error"), [(LAUGHS, "an alias"), ("[" * 9000, "too deep"), ("mode: [a]\n", "a list")])
def test_kube_proxys_configuration(text: str, error: str) -> None:
    from base64 import b64encode
    from typing import Any

    config: Any = {"mode": ""}
    with ending(), pytest.raises(ValueError, match=error):
        _from_file(config, b64encode(text.encode()).decode())


def test_a_save_that_unpacks_to_gigabytes() -> None:
    import gzip
    from base64 import b64encode

    bomb = gzip.compress(gzip.compress(bytes(300_000_000), 9), 9)
    fact = Save()
    fact.most = 1_000_000
    packed = gzip.decompress(bomb)
    with ending():
        reading = fact.reading({"output": ["gzip", b64encode(packed).decode()], "errors": [], "code": 0})
    assert reading["state"] == "failed"
    broken = fact.reading({"output": ["gzip", b64encode(packed[:50]).decode()], "errors": [], "code": 0})
    assert broken["state"] == "failed"


# --- a node's answer


def test_delimiters_cannot_be_made_by_content_and_twice_is_once() -> None:
    said = [
        "@begin A",
        "|@end A",
        "|@begin B",
        "!@code x",
        "!@code 99999",
        "!",
        "!@code 0",
        "@end A",
        "@begin A",
        "|lie",
        "@end A",
    ]
    found = sections(said)
    assert found == {"A": {"output": ["@end A", "@begin B"], "errors": ["@code x", "@code 99999"], "code": 0}}
    assert sections(["@end A", "|x", "!@code 0", "@begin", "@begin "]) == {"": {"output": [], "errors": [], "code": -1}}


def test_sections_in_another_order_or_missing() -> None:
    answer = (SEEDS / "snapshot.txt").read_text().split("\n")
    blocks = "\n".join(answer).split("@begin ")
    turned = "@begin ".join(["", *reversed(blocks[1:])]).split("\n")
    assert NodeSnapshot().process(turned) == NodeSnapshot().process(answer)
    without = NodeSnapshot().process("@begin ".join(blocks[:3]).split("\n"))
    assert without["system"]["state"] == "value" and without["dnsmasq"]["state"] == "failed"


def test_megabytes_of_lines_and_one_long_line_take_no_longer_than_they_are() -> None:
    """Whatever grows with the square of it would not end: each of them is 5 MB."""
    noise = [
        "@begin DnsmasqInstances",
        "|file 644 0 0 0 1:1 /x",
        *["|QUFB" * 9] * 100_000,
        "!@code 0",
        "@end DnsmasqInstances",
    ]
    long = [
        f"@begin {name}\n|{'a=1 ' * 1_250_000}\n!@code 0\n@end {name}"
        for name in ("Units", "Ipvs", "Interfaces", "KubeRules")
    ]
    with ending():
        assert NodeSnapshot().process(noise)["dnsmasq"]["state"] in ("value", "failed")
        NodeSnapshot().process("\n".join(long).split("\n"))


def test_a_node_cannot_choose_what_it_was_asked() -> None:
    asked, other = probe("172.25.4.1", "zju.edu.cn", tries=2), probe("192.0.2.1", "evil.example", tries=1000)
    fact = Answers()
    fact.command([asked])
    results = fact.process([f"@dns probes {json.dumps([other])}", "@dns carrier 0 python3", "@dns try 0 0 9 timeout"])
    assert [(result["probe"], len(result["tries"])) for result in results] == [(asked, 2)]


# --- bundles and reports


def _spoiled(folder: Path, change: Callable[[Path, dict[str, object]], None]) -> None:
    """A bundle whose manifest says that all is well."""
    parts = json.loads((SEEDS / "recording.json").read_text())
    folder.mkdir()
    for name, part in parts.items():
        (folder / f"{name}.json").write_text(json.dumps(part))
    sums: dict[str, object] = {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    change(folder, sums)
    (folder / "manifest.json").write_text(json.dumps({"kind": "dnsmend bundle", "format": 1, "sha256": sums}))


def _part(name: str, text: str) -> Callable[[Path, dict[str, object]], None]:
    def change(folder: Path, sums: dict[str, object]) -> None:
        (folder / name).write_text(text)
        sums[name] = sha256(text.encode()).hexdigest()

    return change


def _pipe(folder: Path, sums: dict[str, object]) -> None:
    (folder / "results.json").unlink()
    os.mkfifo(folder / "results.json")


def _linked(folder: Path, sums: dict[str, object]) -> None:
    (folder / "captures").symlink_to("/etc")
    sums["captures/shadow"] = ""


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_pipe, "results.json is not what was saved"),
        (_linked, "'captures/shadow' is not in it"),
        (lambda folder, sums: sums.update({"a\0b": ""}), r"'a\\x00b' is not in it"),
        (lambda folder, sums: sums.update({"\x1b[2J\n": ""}), "is damaged"),
        (_part("evidence.json", "[" * 100_000), "evidence.json: is not JSON"),
        (_part("evidence.json", '{"hops": [7]}'), r"evidence.hops\[0\] is not an object"),
        (_part("results.json", '{"node-0": [{"probe": 7}]}'), r"results\['node-0'\]\[0\].probe is not an object"),
        (_part("fleet.json", '{"node-0": {"sockets": {"state": "value", "value": 7, "detail": ""}}}'), "sockets.value"),
        (
            _part("fleet.json", '{"node-0": {"udp": {"state": "fine", "value": null, "detail": ""}}}'),
            "state is not one",
        ),
        (_part("policy.json", '{"dns_vips": ["$(x)"]}'), "policy.dns_vips holds what is no address"),
        (_part("policy.json", '{"dns_services": ["$(x)"]}'), "policy.dns_services holds what is no address"),
        (_part("policy.json", '{"dns_services": "10.32.0.10"}'), "policy.dns_services holds what is no address"),
    ],
)
def test_a_bundle(change: Callable[[Path, dict[str, object]], None], sentence: str, tmp_path: Path) -> None:
    _spoiled(tmp_path / "b", change)
    with ending(), pytest.raises(PyinfraError, match=sentence) as refused:
        bundle.load(str(tmp_path / "b"))
    assert "\n" not in str(refused.value) and "\x1b" not in str(refused.value)


def test_a_whole_bundle_is_read(tmp_path: Path) -> None:
    _spoiled(tmp_path / "b", lambda folder, sums: None)
    assert set(bundle.load(str(tmp_path / "b")).fleet) == {"node-0", "node-1"}
    (tmp_path / "link").symlink_to("b")
    assert bundle.load(str(tmp_path / "link")) == bundle.load(str(tmp_path / "b"))


def test_a_replay_of_a_tampered_bundle_is_one_sentence(pyinfra: Run, tmp_path: Path) -> None:
    _spoiled(tmp_path / "b", _part("evidence.json", '{"hops": [], "unseen": [], "counters": {}}'))
    done = pyinfra("-y", "@local", "deploys/diagnose.py", "--data", f"replay={tmp_path / 'b'}")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "the bundle cannot be replayed: " in done.stderr


def test_an_earlier_report(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="is no diagnosis: it is not JSON"):
        json_report.read(str(tmp_path / "d.json"))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"state": "value", "value": 1, "detail": ""}, ""),
        ({"state": "value", "value": 1, "detail": "", "more": 7}, ""),
        ({"state": "value", "value": True, "detail": ""}, "value is not a value of type int"),
        ({"state": "odd", "value": 1, "detail": ""}, "state is not one of its words"),
        ({"state": "value", "value": 1}, "it has no detail"),
        ([], "it is not an object"),
    ],
)
def test_shapes(value: object, problem: str) -> None:
    assert misfit(value, Reading[int]) == problem


# --- the policy

_ODD: tuple[object, ...] = (
    *(None, True, -1, 1.5, float("nan"), float("inf"), 10**30, b"x", object(), {1, 2}, lambda: 1),
    *("", " ", "a\nb", "$(x)\n", "-rf", "\x1b[31m", "\0", "\ud800", "x" * 10_000, "9" * 5000 + "%", "\u0663%", "a\rb"),
    *([None], [5], ["a\nb"], ["\0"], [[]], [{}], {5: 5}, {"a": []}, {"net.x": "1\n2"}, ["::1%eth0"], {"a.b": "x\ny"}),
)


@pytest.mark.parametrize("key", RULES)
def test_a_value_of_the_policy(key: str) -> None:
    for value in _ODD:
        problem = RULES[key](value)
        assert isinstance(problem, str) and "\n" not in problem
        if not problem:
            assert json.dumps(value, allow_nan=False).isprintable()
            assert not any(hidden in str(value) for hidden in "\n\r\0\x1b\ud800"), f"{key} = {value!r}"


@pytest.mark.parametrize("value", [[5], ["::1%eth0"], ["10.0.0.1\n"], [""]])
def test_an_address_of_the_policy(value: object) -> None:
    assert RULES["dns_vips"](value) == "must be None or a list of IP addresses"


# --- what the code must not hold


def test_nothing_of_ours_runs_or_loads_what_somebody_says() -> None:
    """No eval, no exec, no unsafe YAML, no pickle, no shell on this machine."""
    banned = {
        "eval",
        "exec",
        "yaml.load",
        "yaml.unsafe_load",
        "yaml.full_load",
        "os.system",
        "pickle.loads",
        "pickle.load",
    }
    found: list[str] = []
    for folder in ("checks", "deploys", "facts", "inventories", "models", "operations", "probes", "reports"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func)
                    shell = any(word.arg == "shell" for word in node.keywords) and called.startswith("subprocess")
                    if called in banned or shell:
                        found.append(f"{path.name}:{node.lineno}: {called}")
    assert found == []

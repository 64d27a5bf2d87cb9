"""Which edit is planned, and what is refused: on the recorded snapshots of two healthy lab nodes, bent as needed."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import cast

import pytest

from facts.dnsmasq import Instance
from facts.dnsmasq_options import Option, read_options
from facts.routes import Route
from facts.snapshot import Snapshot
from facts.sockets import Socket as ListeningSocket
from models import node
from models.dnsmasq import Socket, configuration, starts
from models.dnsmasq_config import Binding
from models.dnsmasq_edits import with_text
from models.interface_policy import POLICIES, Plan, Wanted, plan
from models.refused import Refused

FLEET = Path(__file__).parent.parent / "fixtures" / "fleet.json"
VIP = "172.25.4.1"
K8S = "/etc/dnsmasq.d/k8s.conf"
INTERFACES = "/etc/dnsmasq.d/10-interfaces.conf"
DEFAULTS = "/etc/default/dnsmasq"


class Bent:
    """A fleet whose node-0 has other files, another command line or another network."""

    def __init__(self) -> None:
        self.fleet = cast(dict[str, Snapshot], json.loads(FLEET.read_text()))
        self.snapshot = self.fleet["node-0"]
        self.dnsmasq = self.snapshot["dnsmasq"]["value"]

    @property
    def instance(self) -> Instance:
        return self.dnsmasq["instances"][0]

    def configured(self, files: dict[str, str], argv: Sequence[str] = ()) -> Bent:
        """Files as given; every other one of the conf-dir empty."""
        empty = {path: "" for path in self.dnsmasq["files"] if path.startswith("/etc/dnsmasq.")}
        texts = {path: text for path, text in (empty | files).items() if self._is_file(path) or path in files}
        self.dnsmasq["files"] = with_text(self.dnsmasq["files"], texts)
        if argv:
            self.instance["argv"] = list(argv)
        self.instance["options"], self.instance["files"] = read_options(self.instance["argv"], self.dnsmasq["files"])
        return self

    def _is_file(self, path: str) -> bool:
        return path in self.dnsmasq["files"] and self.dnsmasq["files"][path]["kind"] == "file"

    def without_stub(self) -> Bent:
        """systemd-resolved does not listen, and the node asks the VIP itself: wildcard mode can start."""
        resolv_conf = self.snapshot["resolv_conf"]["value"]
        assert resolv_conf is not None
        resolv_conf["nameservers"] = [VIP]
        sockets = self.snapshot["sockets"]["value"]
        self.snapshot["sockets"]["value"] = [s for s in sockets if not s["process"].startswith("systemd-resolve")]
        return self

    def served_by_another(
        self,
        address: str,
        container: bool = False,
        active: str = "inactive",
        file_state: str = "disabled",
        interface: str = "",
    ) -> Bent:
        """dnsmasq.service is installed, and something else has port 53: CoreDNS, or a container's dnsmasq."""
        (held, *_) = (socket for socket in self.snapshot["sockets"]["value"] if socket["address"] == VIP)
        name = "dnsmasq" if container else "coredns"
        self.snapshot["sockets"]["value"] = [
            {
                **held,
                "address": address,
                "interface": interface,
                "process": name,
                "pid": 7,
                "owners": [{"process": name, "pid": 7}],
            }
        ]
        if container:
            self.dnsmasq["instances"].append({**self.instance, "pid": 7, "unit": "", "on_host": False, "options": []})
        self.instance["pid"] = 0
        for unit in self.snapshot["units"]["value"]:
            if unit["unit"] == self.instance["unit"]:
                unit["active"], unit["file_state"] = active, file_state
        return self

    def with_endpoint_routes(self) -> Bent:
        """Pods arrive on links of their own, which have no IPv4 address."""
        routing = self.snapshot["routes"]["value"]
        assert routing is not None
        for pod in self.snapshot["pods"]["value"]:
            for address in pod["addresses"]:
                copied = {**routing["main"][0], "destination": f"{address}/32", "interface": "lxc1234", "gateway": ""}
                routing["main"].append(cast(Route, copied))
        link = copy.deepcopy(next(i for i in self.snapshot["interfaces"]["value"] if i["name"].startswith("lxc")))
        link["name"] = "lxc1234"
        self.snapshot["interfaces"]["value"].append(link)
        return self

    def with_link(self, name: str, address: str, scope: str, tentative: bool = False) -> Bent:
        """One more link, with one address."""
        link = copy.deepcopy(next(i for i in self.snapshot["interfaces"]["value"] if i["name"].startswith("lxc")))
        version = ip_address(address).version
        link["name"] = name
        link["addresses"] = [
            {
                "family": 4 if version == 4 else 6,
                "address": address,
                "prefix": 32 if version == 4 else 64,
                "label": name,
                "scope": scope,
                "deprecated": False,
                "tentative": tentative,
            }
        ]
        self.snapshot["interfaces"]["value"].append(link)
        return self

    def planned(self, policy: str = "except-lo", vip: str = VIP) -> Plan | None:
        needs = node.needs("node-0", self.fleet, vip)
        arrivals = tuple(sorted({need.query.arrival for need in needs} - {"lo"}))
        wanted = Wanted(policy, arrivals, ("virbr*", "lxcbr*"))
        host = node.host(self.snapshot, self.instance["pid"])
        return plan(self.dnsmasq, self.instance, host, needs, wanted, lambda lines: "".join(f"{x}\n" for x in lines))


def edits(planned: Plan | None) -> dict[str, str]:
    assert planned is not None
    return {edit.path: edit.after for edit in planned.edits}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_healthy_node_is_left_alone(policy: str) -> None:
    assert Bent().planned(policy) is None


@pytest.mark.parametrize(
    ("policy", "added"),
    [
        ("except-lo", "except-interface=lo\n"),
        ("bind-dynamic", "except-interface=virbr*\nexcept-interface=lxcbr*\n"),
        ("named", "interface=bond0\ninterface=cilium_host\n"),
    ],
)
def test_the_offending_line_becomes_a_comment_and_the_policy_a_file(policy: str, added: str) -> None:
    text = "# a\nbind-dynamic\nexcept-interface=cilium_*\ndomain-needed\n"
    planned = Bent().configured({K8S: text}).planned(policy)
    assert edits(planned) == {
        K8S: "# a\nbind-dynamic\n#dnsmend: except-interface=cilium_*\ndomain-needed\n",
        "/etc/dnsmasq.d/dnsmend.conf": added,
    }
    assert planned is not None
    assert "except-interface=cilium_* (/etc/dnsmasq.d/k8s.conf:3)" in planned.because
    assert not planned.after.lost() and planned.after.start.started


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("mode", ["bind-dynamic", "bind-interfaces"])
def test_local_service_never_takes_over(policy: str, mode: str) -> None:
    """Deleting the last except-interface would switch local-service on, which rejects pods."""
    bent = Bent().configured({K8S: f"{mode}\nexcept-interface=cilium_*\ninterface=bond1\n"})
    planned = bent.planned(policy)
    assert planned is not None
    assert planned.after.configuration.local_service is None
    only_deleted: list[Option] = [option for option in bent.instance["options"] if option["name"] == "local-service"]
    assert only_deleted, "the command line has --local-service, as Debian's unit gives it"


def test_only_the_harmful_part_of_a_list_goes() -> None:
    planned = Bent().configured({K8S: "bind-dynamic\nexcept-interface=docker0, cilium_*,virbr*  # CNI\n"}).planned()
    assert edits(planned)[K8S] == (
        "bind-dynamic\n"
        "except-interface=docker0,virbr*  #dnsmend: was except-interface=docker0, cilium_*,virbr*  # CNI\n"
    )


def test_line_ends_and_other_lines_stay() -> None:
    planned = Bent().configured({K8S: "bind-dynamic\r\nexcept-interface=cilium_*\r\ncache-size=5\r\n"}).planned()
    assert edits(planned)[K8S] == "bind-dynamic\r\n#dnsmend: except-interface=cilium_*\r\ncache-size=5\r\n"


def test_every_offending_line_goes_in_whichever_file() -> None:
    files = {
        K8S: "bind-dynamic\nexcept-interface=cilium_host\n",
        INTERFACES: "interface=bond0\nlisten-address=127.0.0.1\n",
    }
    after = edits(Bent().configured(files).planned())
    assert after[K8S] == "bind-dynamic\n#dnsmend: except-interface=cilium_host\n"
    assert after[INTERFACES] == "#dnsmend: interface=bond0\n#dnsmend: listen-address=127.0.0.1\n"


def test_named_adds_names_to_those_that_are_there() -> None:
    after = edits(Bent().configured({INTERFACES: "bind-dynamic\ninterface=bond0\n"}).planned("named"))
    assert after == {"/etc/dnsmasq.d/dnsmend.conf": "interface=bond0\ninterface=cilium_host\n"}


@pytest.mark.parametrize(
    ("defaults", "argument", "left"),
    [
        ('DNSMASQ_EXCEPT="cilium_*"', ["-I", "cilium_*"], '#dnsmend: DNSMASQ_EXCEPT="cilium_*"'),
        (
            'DNSMASQ_EXCEPT="lxc* cilium_*"',
            ["-I", "lxc*", "-I", "cilium_*"],
            "DNSMASQ_EXCEPT='lxc*'  #dnsmend: was DNSMASQ_EXCEPT=\"lxc* cilium_*\"",
        ),
        (
            'DNSMASQ_OPTS="--except-interface=cilium_* --cache-size=5"',
            ["--except-interface=cilium_*", "--cache-size=5"],
            'DNSMASQ_OPTS=--cache-size=5  #dnsmend: was DNSMASQ_OPTS="--except-interface=cilium_* --cache-size=5"',
        ),
    ],
)
def test_the_command_line_is_edited_where_it_comes_from(defaults: str, argument: list[str], left: str) -> None:
    bent = Bent()
    argv = [*bent.instance["argv"][:-1], *argument, "--local-service"]
    planned = bent.configured({K8S: "bind-dynamic\n", DEFAULTS: f"# a\n{defaults}\n"}, argv).planned()
    assert edits(planned)[DEFAULTS] == f"# a\n{left}\n"
    assert planned is not None
    assert "cilium_*" not in " ".join(planned.argv)


def test_a_command_line_that_comes_from_elsewhere_is_refused() -> None:
    bent = Bent()
    argv = [*bent.instance["argv"], "--except-interface=cilium_*"]
    with pytest.raises(Refused, match=r"no variable holds --except-interface=cilium_\*"):
        bent.configured({K8S: "bind-dynamic\n", DEFAULTS: "# nothing\n"}, argv).planned()


def test_without_a_conf_dir_the_policy_goes_into_the_file_that_is_read() -> None:
    argv = ["/usr/sbin/dnsmasq", "-C", K8S, "--local-service"]
    bent = Bent().configured({K8S: "bind-dynamic\nexcept-interface=cilium_*"}, argv)
    assert edits(bent.planned()) == {
        K8S: (
            "bind-dynamic\n#dnsmend: except-interface=cilium_*\n#dnsmend: begin\nexcept-interface=lo\n#dnsmend: end\n"
        )
    }


def test_wildcard_beside_the_stub_gets_a_bind_mode() -> None:
    planned = Bent().configured({K8S: "except-interface=cilium_*\n"}).planned()
    assert planned is not None
    assert "does not start" in planned.because and "systemd-resolve" in planned.because
    assert edits(planned)["/etc/dnsmasq.d/dnsmend.conf"] == "bind-dynamic\nexcept-interface=lo\n"
    kept = Bent().without_stub().configured({K8S: "except-interface=cilium_*\n"}).planned()
    assert edits(kept)["/etc/dnsmasq.d/dnsmend.conf"] == "except-interface=lo\n"


def test_bind_dynamic_takes_bind_interfaces_out() -> None:
    after = edits(Bent().configured({K8S: "bind-interfaces\n"}).planned("bind-dynamic"))
    assert after[K8S] == "#dnsmend: bind-interfaces\n"
    assert after["/etc/dnsmasq.d/dnsmend.conf"].startswith("bind-dynamic\n")


def test_two_bind_modes_become_one() -> None:
    planned = Bent().configured({K8S: "bind-dynamic\nexcept-interface=lo\n", INTERFACES: "bind-interfaces\n"}).planned()
    assert planned is not None
    assert planned.after.configuration.binding in (Binding.DYNAMIC, Binding.INTERFACES)
    assert planned.after.start.started


def test_endpoint_routes_need_bind_interfaces() -> None:
    """TCP from an interface without an IPv4 address is served with bind-interfaces only."""
    bent = Bent().with_endpoint_routes().configured({K8S: "bind-dynamic\nexcept-interface=lxc*\n"})
    after = edits(bent.planned("except-lo"))
    assert after[K8S].startswith("#dnsmend: bind-dynamic\n")
    assert after["/etc/dnsmasq.d/dnsmend.conf"] == "bind-interfaces\nexcept-interface=lo\n"
    with pytest.raises(Refused, match=r"policy bind-dynamic: .*TCP would not be answered.*no IPv4 address"):
        bent.planned("bind-dynamic")


def test_a_host_that_asks_its_own_loopback_is_not_cut_off() -> None:
    bent = Bent().without_stub().configured({K8S: "bind-dynamic\nexcept-interface=cilium_*\n"})
    resolv_conf = bent.snapshot["resolv_conf"]["value"]
    assert resolv_conf is not None
    resolv_conf["nameservers"] = ["127.0.0.1"]
    with pytest.raises(Refused, match=r"the host itself -> 127.0.0.1 UDP is answered now and would not be any more"):
        bent.planned("except-lo")
    assert bent.planned("named") is not None
    assert bent.planned("bind-dynamic") is not None


def test_what_cannot_be_read_is_refused_with_file_and_line() -> None:
    bent = Bent()
    message = "bad option at line 3 of /etc/dnsmasq.d/x.conf"
    bent.instance["error"] = {"message": message, "file": "x", "line": 3, "certain": True}
    with pytest.raises(Refused, match=r"would not start again: bad option at line 3 of /etc/dnsmasq.d/x.conf"):
        bent.planned()


def test_what_no_unit_starts_is_refused() -> None:
    bent = Bent().configured({K8S: "bind-dynamic\nexcept-interface=cilium_*\n"})
    bent.instance["unit"] = "session-3.scope"
    with pytest.raises(Refused, match="nothing can restart it"):
        bent.planned()


def test_auth_server_is_not_ours_to_take_out() -> None:
    with pytest.raises(Refused):
        Bent().configured({K8S: "bind-dynamic\nauth-server=ns.example.com,bond0\n"}).planned()


def test_the_vip_is_what_the_nodes_ask_and_own() -> None:
    bent = Bent()
    assert node.vips(bent.fleet, None) == {"node-0": ("172.25.4.1",), "node-1": ("172.25.4.2",)}
    assert node.vips(bent.fleet, ["172.25.4.10"]) == {"node-0": ("172.25.4.10",), "node-1": ()}


def test_a_vip_that_another_program_holds_is_not_ours() -> None:
    bent = Bent()
    for socket in bent.snapshot["sockets"]["value"]:
        if socket["address"] == VIP:
            socket["process"] = "named"
    assert node.vips(bent.fleet, None)["node-0"] == ()


@pytest.mark.parametrize("everywhere", ["*", "0.0.0.0"])
@pytest.mark.parametrize("container", [False, True])
def test_a_vip_that_another_program_serves_among_all_addresses_is_not_ours(everywhere: str, container: bool) -> None:
    bent = Bent().served_by_another(everywhere, container)
    assert node.vips(bent.fleet, None)["node-0"] == ()
    assert node.vips(bent.fleet, [VIP])["node-0"] == ()


@pytest.mark.parametrize(
    ("active", "file_state"), [("failed", "disabled"), ("activating", "disabled"), ("inactive", "enabled")]
)
def test_who_has_taken_the_port_of_a_dnsmasq_that_should_run_is_found(active: str, file_state: str) -> None:
    bent = Bent().served_by_another("*", active=active, file_state=file_state)
    assert node.vips(bent.fleet, None)["node-0"] == (VIP,)
    with pytest.raises(Refused, match=r"dnsmasq would not start: .* Address already in use by coredns on \*:53"):
        bent.planned()


def test_where_the_units_are_not_known_a_stopped_dnsmasq_is_still_looked_at() -> None:
    bent = Bent().served_by_another("*")
    bent.snapshot["units"]["value"] = []
    assert node.vips(bent.fleet, None)["node-0"] == (VIP,)


@pytest.mark.parametrize(("address", "interface"), [("::", ""), ("127.0.0.53", "lo"), ("0.0.0.0", "virbr0")])
def test_sockets_that_take_nothing_for_the_vip_hold_it_for_nobody(address: str, interface: str) -> None:
    bent = Bent().served_by_another(address, interface=interface)
    assert node.vips(bent.fleet, None)["node-0"] == (VIP,)


def test_a_dnsmasq_that_holds_its_address_beside_another_program_is_looked_at() -> None:
    bent = Bent()
    (held, *_) = (socket for socket in bent.snapshot["sockets"]["value"] if socket["address"] == VIP)
    bent.snapshot["sockets"]["value"].append({**held, "address": "*", "process": "coredns", "pid": 7, "owners": []})
    assert node.vips(bent.fleet, None)["node-0"] == (VIP,)
    for socket in bent.snapshot["sockets"]["value"]:
        if socket["process"] == "dnsmasq":
            socket["address"] = "0.0.0.0"
    assert node.vips(bent.fleet, None)["node-0"] == (VIP,)


def test_a_vip_that_a_container_s_dnsmasq_holds_is_not_ours() -> None:
    bent = Bent()
    bent.dnsmasq["instances"].append({**bent.instance, "pid": 0})
    bent.instance["on_host"] = False
    assert node.vips(bent.fleet, None)["node-0"] == ()


def meant(bent: Bent) -> tuple[Socket, ...]:
    """The sockets that dnsmasq is to have on this node as it is."""
    return starts(configuration(bent.instance["options"]), node.host(bent.snapshot, bent.instance["pid"])).sockets


def test_a_socket_that_should_be_there_is_missed() -> None:
    bent = Bent()
    assert node.not_listening(bent.snapshot, bent.instance, meant(bent)) == []
    sockets = bent.snapshot["sockets"]["value"]
    bent.snapshot["sockets"]["value"] = [s for s in sockets if (s["protocol"], s["address"]) != ("tcp", "172.26.2.58")]
    assert node.not_listening(bent.snapshot, bent.instance, meant(bent)) == ["tcp 172.26.2.58:53"]


@pytest.mark.parametrize("mode", ["bind-dynamic", "bind-interfaces"])
def test_a_socket_is_not_missed_of_a_link_that_comes_or_goes(mode: str) -> None:
    """A pod's link; a service's address, which kube-proxy adds; an address that is still looked for on the network."""
    bent = Bent().configured({K8S: f"{mode}\nexcept-interface=lo\n"})
    planned = meant(bent)
    assert {str(socket) for socket in planned} >= {"udp 172.25.4.1:53", "tcp 172.26.2.58:53"}
    owned = next(s for s in bent.snapshot["sockets"]["value"] if s["pid"] == bent.instance["pid"])
    bent.snapshot["sockets"]["value"] = [
        cast(ListeningSocket, {**owned, "protocol": socket.protocol, "address": str(socket.ip)}) for socket in planned
    ]
    bent.with_link("lxc0a1b2c3d4e5f", "fe80::a1b2:c3ff:fed4:e5f6", "link")
    gone = meant(bent)
    assert "udp [fe80::a1b2:c3ff:fed4:e5f6]%lxc0a1b2c3d4e5f:53" in map(str, gone)
    assert node.not_listening(bent.snapshot, bent.instance, planned) == []
    assert node.not_listening(bent.snapshot, bent.instance, gone) == []
    bent.with_link("kube-ipvs0", "10.32.0.77", "global")
    assert node.not_listening(bent.snapshot, bent.instance, planned) == []
    assert node.not_listening(bent.snapshot, bent.instance, meant(bent)) == [
        "udp 10.32.0.77:53",
        "tcp 10.32.0.77:53",
    ]
    bent.with_link("bond1", "2001:db8::7", "global", tentative=True)
    assert "2001:db8::7" not in str(node.not_listening(bent.snapshot, bent.instance, meant(bent)))


def test_names_that_come_with_the_pods_network_do_not_keep_dnsmasq_from_starting_at_boot() -> None:
    """bind-interfaces ends with "unknown interface" where cilium_host is not there yet; bind-dynamic waits for it."""
    bent = Bent().configured({K8S: "bind-interfaces\n"})
    planned = bent.planned("named")
    assert planned is not None
    assert edits(planned)[K8S] == "#dnsmend: bind-interfaces\n"
    assert planned.after.configuration.binding is Binding.DYNAMIC
    endpoint_routes = Bent().with_endpoint_routes().configured({K8S: "bind-dynamic\ninterface=bond0\n"})
    with pytest.raises(Refused, match="policy named"):
        endpoint_routes.planned("named")


def test_a_start_at_boot_that_fails_already_is_no_reason_to_refuse() -> None:
    bent = Bent().configured({K8S: "bind-interfaces\ninterface=cilium_host\n"})
    assert bent.planned("except-lo") is not None


def test_a_name_that_comes_late_is_taken_out_where_bind_interfaces_is_needed() -> None:
    text = "bind-dynamic\ninterface=bond0\ninterface=cilium_host\n"
    after = edits(Bent().with_endpoint_routes().configured({K8S: text}).planned("except-lo"))
    assert after[K8S] == "#dnsmend: bind-dynamic\ninterface=bond0\n#dnsmend: interface=cilium_host\n"
    assert after["/etc/dnsmasq.d/dnsmend.conf"] == "bind-interfaces\nexcept-interface=lo\n"

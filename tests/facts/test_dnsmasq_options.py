"""The reader of dnsmasq's command line and files, against dnsmasq itself where that says anything."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from facts.dnsmasq_keywords import KEYWORDS, Parameter
from facts.dnsmasq_lines import QUOTED_COMMA, split_value
from facts.dnsmasq_options import CannotTell, ConfigError, ConfigFile, NeedsFile, Option, read_options

MAIN = "/etc/dnsmasq.conf"
MISSING: ConfigFile = {"path": MAIN, "kind": "missing", "content": "", "entries": []}
DEBIAN = (
    "dnsmasq -x /run/dnsmasq/dnsmasq.pid -u dnsmasq -7 /etc/dnsmasq.d,.dpkg-dist,.dpkg-old,.dpkg-new --local-service"
)


def file(path: str, content: str) -> ConfigFile:
    return {"path": path, "kind": "file", "content": content, "entries": []}


def directory(path: str, **entries: str) -> ConfigFile:
    named = [{"name": name.replace("_", "."), "kind": kind} for name, kind in entries.items()]
    return {"path": path, "kind": "dir", "content": "", "entries": named}  # type: ignore[typeddict-item]


def read(arguments: str, *sent: ConfigFile) -> list[tuple[str, str | None, str, int]]:
    files: Mapping[str, ConfigFile] = {MAIN: MISSING} | {one["path"]: one for one in sent}
    options, _ = read_options(arguments.split(), files)
    return [(option["name"], option["value"], option["file"], option["line"]) for option in options]


def read_line(line: str) -> Option:
    options, _ = read_options(["dnsmasq", "-C", "/f"], {"/f": file("/f", line)})
    return options[1]


# --- order ---------------------------------------------------------------------------------------------------------


def test_debian_reads_dnsmasq_d_before_dnsmasq_conf() -> None:
    sent = [
        directory("/etc/dnsmasq.d", b="file", a="file"),
        file("/etc/dnsmasq.d/a", "no-resolv\n"),
        file("/etc/dnsmasq.d/b", "# nothing\n\nport=53\n"),
        file(MAIN, "interface=bond0\n"),
    ]
    assert read(DEBIAN, *sent) == [
        ("pid-file", "/run/dnsmasq/dnsmasq.pid", "", 0),
        ("user", "dnsmasq", "", 0),
        ("conf-dir", "/etc/dnsmasq.d,.dpkg-dist,.dpkg-old,.dpkg-new", "", 0),
        ("no-resolv", None, "/etc/dnsmasq.d/a", 1),
        ("port", "53", "/etc/dnsmasq.d/b", 3),
        ("local-service", None, "", 0),
        ("interface", "bond0", MAIN, 1),
    ]
    _, in_order = read_options(DEBIAN.split(), {one["path"]: one for one in sent})
    assert in_order == ["/etc/dnsmasq.d/a", "/etc/dnsmasq.d/b", MAIN]


def test_first_conf_file_is_read_last_and_replaces_the_default_and_a_second_one_is_read_in_place() -> None:
    found = read("dnsmasq -C /1 -C /2 -p 5353", file("/1", "interface=a"), file("/2", "interface=b"))
    assert [entry[:3] for entry in found if entry[0] in ("interface", "port")] == [
        ("interface", "b", "/2"),
        ("port", "5353", ""),
        ("interface", "a", "/1"),
    ]


def test_files_named_inside_files_are_read_in_place() -> None:
    sent = [
        file("/1", "interface=a\nconf-file=/2\nconf-dir=/d/,*.conf\ninterface=d"),
        file("/2", "interface=b"),
        directory("/d", x_conf="file", y_bak="file"),
        file("/d/x.conf", "interface=c"),
    ]
    found = read("dnsmasq -C /1", *sent)
    assert [entry[1] for entry in found if entry[0] == "interface"] == ["a", "b", "c", "d"]


def test_no_file_is_read_twice_by_path_or_by_inode() -> None:
    again = file("/link", "interface=a")
    again["identity"] = "1:2"
    original = file("/1", "interface=a\nconf-file=/1\nconf-file=/link")
    original["identity"] = "1:2"
    assert [entry[0] for entry in read("dnsmasq -C /1", original, again)].count("interface") == 1


def test_servers_file_adds_servers_only_and_its_errors_are_passed_over() -> None:
    found = read(
        "dnsmasq -C /1",
        file("/1", "servers-file=/s\nno-resolv"),
        file("/s", "server=/a/1.2.3.4\ninterface=bond0\nnonsense\nrev-server=10.0.0.0/8,1.2.3.4\n"),
    )
    assert found[3:] == [("server", "/a/1.2.3.4", "/s", 1), ("rev-server", "10.0.0.0/8,1.2.3.4", "/s", 4)]


def test_a_servers_file_that_was_not_sent_is_no_reason_not_to_start() -> None:
    assert ("no-resolv", None, "/1", 2) in read("dnsmasq -C /1", file("/1", "servers-file=/s\nno-resolv"))


# --- the command line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        ("-zp5353", "port", "5353"),
        ("-z -p 5353", "port", "5353"),
        ("--port 5353", "port", "5353"),
        ("--port=5353", "port", "5353"),
        ("--except lo", "except-interface", "lo"),
        ("--domain-s x", "domain", "x"),
        ("--local-service", "local-service", None),
        ("--local-service=host", "local-service", "host"),
        ("--no-dhcp-i=lo", "no-dhcp-interface", "lo"),
        ("-u nobody", "user", "nobody"),
        ("-3 tag:a", "bootp-dynamic", "tag:a"),
    ],
)
def test_command_line_forms(arguments: str, name: str, value: str | None) -> None:
    assert (name, value, "", 0) in read(f"dnsmasq {arguments} -C /1", file("/1", ""))


@pytest.mark.parametrize(
    "argument", ["--loc", "--po=53", "--nonsense", "-%", "--bind-interfaces=x", "--port", "-p", "--local-service=lan"]
)
def test_bad_command_line(argument: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(f"dnsmasq {argument}")
    assert (raised.value.message, raised.value.code) == ("bad command line options: try --help", 1)


def test_junk_is_an_error_but_an_empty_argument_is_not() -> None:
    with pytest.raises(ConfigError, match="junk found in command line"):
        read("dnsmasq junk -z")
    options, _ = read_options(["dnsmasq", "-z", " ", ""], {MAIN: MISSING})
    assert [option["name"] for option in options] == ["bind-interfaces"]


# --- what is unknown -----------------------------------------------------------------------------------------------


def test_all_paths_that_were_not_sent_are_named_at_once() -> None:
    with pytest.raises(NeedsFile) as raised:
        read_options(["dnsmasq", "-7", "/d", "-C", "/1", "-C", "/2"], {"/2": file("/2", "nonsense")})
    assert raised.value.paths == ("/d",)
    with pytest.raises(NeedsFile) as raised:
        read_options(["dnsmasq", "-7", "/d", "-C", "/1"], {"/d": directory("/d", a="file", b="file")})
    assert raised.value.paths == ("/d/a", "/d/b", "/1")


@pytest.mark.parametrize("line", ["conf-script=/bin/true", "conf-file=-", "conf-file=/secret", "conf-file=/huge"])
def test_what_is_not_in_a_file_that_was_sent_cannot_be_told(line: str) -> None:
    secret: ConfigFile = {"path": "/secret", "kind": "unreadable", "content": "", "entries": []}
    huge: ConfigFile = {"path": "/huge", "kind": "large", "content": "", "entries": []}
    with pytest.raises(CannotTell):
        read("dnsmasq -C /1", file("/1", line), secret, huge)


# --- values --------------------------------------------------------------------------------------------------------


def test_a_quoted_comma_does_not_split() -> None:
    option = read_line('interface="bond0,cilium_host" , lo')
    assert option["value"] == f"bond0{QUOTED_COMMA}cilium_host , lo"
    assert split_value(option["value"]) == ["bond0,cilium_host", "lo"]


@pytest.mark.parametrize(
    ("value", "parts"),
    [(None, []), ("", [""]), ("a", ["a"]), ("a , b", ["a", "b"]), ("a,,b,", ["a", "", "b", ""])],
)
def test_split_value(value: str | None, parts: list[str]) -> None:
    assert split_value(value) == parts


def test_bytes_that_are_no_utf8_survive() -> None:
    content = b"txt-record=a,\xff\xc3\xa4\n".decode("utf-8", "surrogateescape")
    value = read_line(content)["value"]
    assert value is not None and value.encode("utf-8", "surrogateescape") == b"a,\xff\xc3\xa4"


# --- against dnsmasq -----------------------------------------------------------------------------------------------

ACCEPTED_OR_NOT = [
    "",
    "\n\n",
    "# comment",
    "   # comment",
    "interface=bond0",
    "interface = bond0",
    "  interface  =  bond0  ",
    "\tinterface\t=\tbond0\t# why",
    "interface=bond0#x",
    "interface=bond0 #x",
    "interface=bond0,cilium_host",
    "interface=bond0 , cilium_host",
    "interface=",
    "interface",
    "interface bond0",
    "Interface=bond0",
    "interface=='x",
    "=bond0",
    "=",
    "--interface=bond0",
    "-i bond0",
    "i=bond0",
    "except-interfac=lo",
    "except=lo",
    "interface=bond0\r\nport=53\r\n",
    "\ufeffinterface=bond0",
    "\ufeff# comment",
    "interface=bo\\\nnd0",
    "port=53\n\\\nno-resolv",
    'interface="bond0"',
    "interface='bond0'",
    'interface="bond0',
    'interface=bond0"',
    'interface="a""b"',
    'interface="a" "b"',
    'interface="a"b"c"',
    '"interface"=bond0',
    '"port"=53',
    '"t"',
    'interface="a=b"',
    'interface="bond0"#x',
    'interface= "bond0"#x"',
    '"\\"#"',
    'txt-record=a,"\\t\\n\\"\\\\\\e\\b\\r\\x"',
    'txt-record=a,"x\\"',
    '"# not a comment"',
    "bind-interfaces",
    "bind-interfaces=",
    "bind-interfaces=yes",
    "bind-interfaces\nbind-interfaces",
    "bind-interfaces\nbind-dynamic",
    "local-service",
    "local-service=",
    "local-service=net",
    "local-service=host",
    'local-service="host"',
    "local-service=Host",
    "local-service=lan",
    "local-service\nno-resolv\nlocal-service=host",
    "port=53",
    "port=",
    "port",
    "port=0",
    "port=65535",
    "port=65536",
    "port=-1",
    "port=+1",
    "port=0x35",
    'port="53"',
    "port=5 3",
    "port=4294967349",
    "port=99999999999999999999999",
    "port=2147483648",
    "port=53\n\nport=53",
    "cache-size",
    "cache-size=",
    "cache-size=1000",
    "cache-size=many",
    "cache-size=1\ncache-size=1",
    "listen-address=172.25.4.1",
    "listen-address=172.25.4.1,fd25::1 , ::1",
    "listen-address=172.25.4.1,",
    "listen-address=",
    "listen-address=172.25.4.1/24",
    "listen-address=172.25.4.01",
    "listen-address=172.25.4",
    "listen-address=fe80::1%lo",
    "listen-address=::ffff:1.2.3.4",
    "listen-address=localhost",
    "listen-address=0.0.0.0",
    'listen-address="172.25.4.1"',
    'listen-address="172.25.4.1,172.25.4.2"',
    "auth-server=ns.example,bond0",
    "auth-server=ns.example,bond0/4",
    "auth-server=ns.example,bond0/5",
    "auth-server=ns.example,172.25.4.1,fd25::1",
    "auth-server=ns.example,172.25.4.1/4",
    "auth-server=ns.example\nauth-server=ns.example",
    "auth-peer=1.2.3.4",
    "auth-peer=x",
    "server=1.2.3.4",
    "server=1.2.3.4#5353",
    "server=1.2.3.4#x",
    "server=1.2.3.4#65536",
    "server=1.2.3.4@bond0",
    "server=1.2.3.4@172.25.4.1#53",
    "server=1.2.3.4@172.25.4.1#x",
    "server=/clusters.zjusct.io/172.28.0.2",
    "server=/a/b/#",
    "server=/a/",
    "server=#",
    "local=/a/",
    "address=/a/1.2.3.4",
    "address=/a/#",
    "address=/a/",
    "address=/a/x",
    "address=1.2.3.4",
    "rev-server=10.0.0.0/8,1.2.3.4",
    "rev-server=x,1.2.3.4",
    "min-port=70000",
    "port-limit=0",
    "max-tcp-connections=0",
    "local-ttl=x",
    "domain-suffix=a\ndomain=b",
    "dhcp-lease=/a\ndhcp-leasefile=/b",
    "user\ngroup=",
    "filter-A\nfilter-A",
    "filter-AAAA=1",
    "test",
    "version",
    "help",
    "log-queries=extra\nlog-queries",
    "conf-file",
    "conf-file=",
    "conf-dir=",
    "#" * 1023 + "port=53",
    "#" * 1024 + "nonsense",
    "#" * 1023 + "\nnonsense",
    "#" * 1024 + "\nnonsense",
    "#" * 1024,
    " " * 3000 + "nonsense",
    "interface=a\0b\nnonsense",
    "\0nonsense",
    "\0\nnonsense",
    "interface=\u00e4\nb\u00e4d",
    # What dhcp-fqdn needs besides is looked at by dnsmasq after reading, and not here.
    *(f"# first\n{name}" for name in sorted(KEYWORDS) if name != "dhcp-fqdn"),
    *(f"{name}=" for name, word in sorted(KEYWORDS.items()) if word.parameter is Parameter.NONE),
]


@pytest.fixture(scope="module")
def dnsmasq() -> str:
    found = shutil.which("dnsmasq", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not found:
        pytest.fail("dnsmasq is not installed: apt-get install dnsmasq-base")
    return found


def real(dnsmasq: str, *arguments: str) -> tuple[int, str]:
    """Exit code and last message of `dnsmasq --test`, without its own name before it."""
    ran = subprocess.run(
        [dnsmasq, "--test", *arguments],
        capture_output=True,
        timeout=10,
        env={"LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
    )
    message = ran.stderr.decode("utf-8", "replace").strip().removeprefix("dnsmasq: ")
    return ran.returncode, "" if ran.returncode == 0 else message


def on_disk(path: Path) -> dict[str, ConfigFile]:
    """What a node would send about `path` and everything below it."""
    sent: dict[str, ConfigFile] = {}
    for one in [path, *path.rglob("*")]:
        found = file(str(one), "")
        if one.is_dir():
            found["kind"] = "dir"
            for entry in one.iterdir():
                kind = "file" if entry.is_file() else "dir" if entry.is_dir() else "dangling"
                found["entries"].append({"name": entry.name, "kind": kind})  # type: ignore[typeddict-item]
        elif one.is_file():
            found["content"] = one.read_bytes().decode("utf-8", "surrogateescape")
            found["identity"] = f"{one.stat().st_dev}:{one.stat().st_ino}"
        else:
            found["kind"] = "missing"
        sent[str(one)] = found
    return sent


def ours(sent: Mapping[str, ConfigFile], *arguments: str) -> tuple[int, str]:
    try:
        read_options(["dnsmasq", *arguments], sent)
    except ConfigError as error:
        return error.code, error.message
    return 0, ""


def test_same_verdict_message_and_line_as_dnsmasq(dnsmasq: str, tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    different = []
    for content in ACCEPTED_OR_NOT:
        path.write_bytes(content.encode())
        theirs = real(dnsmasq, "-C", str(path))
        mine = ours(on_disk(path), "-C", str(path))
        # Values of options that decide nothing about answering are left to dnsmasq itself.
        if theirs != mine:
            different.append((content[-60:], theirs, mine))
    assert different == []


def test_same_verdict_on_command_lines(dnsmasq: str, tmp_path: Path) -> None:
    for name, content in {"port": "port=53", "empty": "", "local": "local-service=host"}.items():
        (tmp_path / name).write_text(content)
    sent = on_disk(tmp_path)
    here = str(tmp_path)
    command_lines = [
        ["-p", "53"],
        ["-p53"],
        ["-p", "53", "-p", "53"],
        ["-C", f"{here}/port", "-p", "5353"],
        ["-C", f"{here}/port", "-p", "5353", "-C", f"{here}/port"],
        ["-C", f"{here}/empty", "-C", f"{here}/port", "-p", "5353", "-p", "5353"],
        ["-C", f"{here}/empty", "-C", f"{here}/port", "--port=x"],
        ["-C", f"{here}/port", "--port=x"],
        ["--local-service", "--local-service"],
        ["--local-service", "-C", f"{here}/local"],
        ["--conf-file", f"{here}/port"],
        [f"--conf-fi={here}/port"],
        ["--interface", "--port=53"],
        ["--interface", "--port"],
        ["--exc", "lo"],
        ["--loc"],
        ["--no-dhcp", "x"],
        ["--domain", "a"],
        ["--doma", "a"],
        ["--dhcp-leas", "a"],
        ["--cache-size", "10"],
        ["-c", "10"],
        ["-c"],
        ["-q=extra"],
        ["-qk"],
        ["-1"],
        ["-3"],
        ["-zi"],
        ["-zibond0", "-Ilo"],
        ["-"],
        ["--"],
        ["--", "-z"],
        ["--", " "],
        ["junk"],
        [""],
        ["-i", ""],
        ["-a", ""],
        ["--port="],
        ["--bind-dynamic="],
        ["-C", f"{here}/none"],
        ["-C", here],
        ["-7", here],
        ["-7", f"{here}/none"],
        ["-7", f"{here}/port"],
        ["-7", ""],
        ["-S", "1.2.3.4#x"],
    ]
    different = []
    for arguments in command_lines:
        # -C keeps /etc/dnsmasq.conf of this machine out.
        whole = (
            [*arguments]
            if "-C" in arguments or any("conf-fi" in one for one in arguments)
            else [
                "-C",
                f"{here}/empty",
                *arguments,
            ]
        )
        theirs, mine = real(dnsmasq, *whole), ours(sent | {f"{here}/none": {**MISSING, "path": f"{here}/none"}}, *whole)
        if theirs != mine:
            different.append((arguments, theirs, mine))
    assert different == []


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ("", ["a", "b.bak", "b.conf", "c.dpkg-dist", "conf", ".conf"]),
        (",.bak,.dpkg-dist", ["a", "b.bak", "b.conf", "c.dpkg-dist"]),
        (",*.conf", ["a", "b.conf", "b.conf~", ".conf", "conf"]),
        (",*", ["a", "b.bak"]),
        (",*.conf,.bak", ["a.conf", "b.bak", "a.bak.conf", "x.conf.bak"]),
        (" , *.conf , ", ["a.conf", "b"]),
        ("", ["#a#", "#b", "c#", "d~", "~e", "..f", "#"]),
        ("", ["Z", "a", "B", "\u00e4", "10", "9", "-"]),
    ],
)
def test_conf_dir_reads_the_same_files_in_the_same_order(
    dnsmasq: str, tmp_path: Path, parts: str, names: list[str]
) -> None:
    """dnsmasq names the first file it cannot accept, so the order shows by making one after the other good."""
    here = tmp_path / "d"
    (here / "subdirectory").mkdir(parents=True)
    for name in names:
        (here / name).write_text("nonsense")
    (tmp_path / "empty").write_text("")
    arguments = ["-C", str(tmp_path / "empty"), "-7", f"{here}{parts}"]
    for _ in range(len(names) + 1):
        theirs = real(dnsmasq, *arguments)
        assert ours(on_disk(tmp_path), *arguments) == theirs
        if theirs[0] == 0:
            break
        Path(theirs[1].split(" at line 1 of ")[1]).write_text("no-resolv")
    assert theirs[0] == 0


def test_dangling_link_and_link_to_the_same_file(dnsmasq: str, tmp_path: Path) -> None:
    here = tmp_path / "d"
    here.mkdir()
    (here / "a").write_text("port=53")
    (here / "b").symlink_to("a")
    (tmp_path / "empty").write_text("")
    arguments = ["-C", str(tmp_path / "empty"), "-7", str(here)]
    assert ours(on_disk(tmp_path), *arguments) == real(dnsmasq, *arguments) == (0, "")
    (here / "z").symlink_to("nowhere")
    code, message = real(dnsmasq, *arguments)
    assert ours(on_disk(tmp_path), *arguments) == (code, message)
    assert (code, message) == (3, f"cannot access {here}/z: No such file or directory")


def test_the_keyword_table_is_the_one_of_dnsmasq(dnsmasq: str) -> None:
    shown = subprocess.run([dnsmasq, "--help"], capture_output=True, text=True, env={"LC_ALL": "C"}).stdout
    listed: dict[str, str] = {}
    for line in shown.splitlines():
        if line.startswith("-") or line.startswith("    --"):
            letter = line[1] if line[0] == "-" else ""
            name = line.split("--")[1].split("=")[0].split("[")[0].split()[0]
            listed[name] = letter
    assert listed == {word.name: word.letter for word in KEYWORDS.values() if word.name == word.means}

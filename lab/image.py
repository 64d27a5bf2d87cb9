"""The cached Debian root that every node is an overlay of, made by mmdebstrap once and kept outside the checkout."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import host, plan
from lab.host import LabError

SUITE = "bookworm"

PACKAGES = (
    "systemd systemd-sysv systemd-resolved dbus openssh-server sudo dnsmasq dnsmasq-base unbound iproute2 iptables "
    "nftables conntrack ipset ipvsadm iputils-ping procps bind9-dnsutils python3-minimal tcpdump less ethtool kmod"
).split()

# Units that a node does not need, and that only cost boot time or write in the background.
_MASKED = (
    "systemd-logind.service console-getty.service getty.target apt-daily.timer apt-daily-upgrade.timer "
    "dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-pstore.service "
    "unbound.service unbound-resolvconf.service systemd-firstboot.service"
)

_HOOKS = (
    f'chroot "$1" useradd --create-home --shell /bin/bash {plan.SSH_USER}',
    f'echo "{plan.SSH_USER} ALL=(ALL:ALL) NOPASSWD: ALL" >"$1/etc/sudoers.d/{plan.SSH_USER}"',
    f'chmod 0440 "$1/etc/sudoers.d/{plan.SSH_USER}"',
    f'chroot "$1" systemctl mask --quiet {_MASKED}',
    # Host keys and the machine id are each node's own.
    'rm -f "$1"/etc/ssh/ssh_host_* "$1/etc/machine-id" "$1/etc/hostname"',
)

_OPTIONS = (
    "--mode=root",
    "--variant=minbase",
    "--aptopt=APT::Install-Recommends false",
    *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "info", "locale", "lintian")),
)


@dataclass(frozen=True)
class Recipe:
    """A Debian root: `packages` and what they need, then `hooks`, shell commands with the root's path in `$1`."""

    title: str
    prefix: str
    packages: tuple[str, ...]
    hooks: tuple[str, ...]

    @property
    def options(self) -> tuple[str, ...]:
        """The options of mmdebstrap(1)."""
        hooks = (f"--customize-hook={hook}" for hook in self.hooks)
        return (*_OPTIONS, f"--include={','.join(self.packages)}", *hooks)


NODE = Recipe("the nodes' root", "root", tuple(PACKAGES), _HOOKS)


def path(recipe: Recipe = NODE) -> Path:
    """Where the root is, or will be: the name holds a hash of everything that went into it."""
    text = "\n".join((SUITE, *recipe.options))
    return host.cache_dir() / f"{recipe.prefix}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def ensure(recipe: Recipe = NODE) -> Path:
    """Return the root, building it first if it is not cached. Raises LabError if it cannot be built."""
    root = path(recipe)
    if root.is_dir():
        return root
    with host.locked(root.parent) as lock:
        for stale in root.parent.glob("*.partial"):
            shutil.rmtree(stale)
        host.say(
            f"building {recipe.title} with mmdebstrap ({len(recipe.packages)} packages and what they need), "
            f"kept in {root.parent}"
        )
        partial = root.with_name(root.name + ".partial")
        partial.mkdir()
        try:
            build(recipe, partial, lock)
            # Only a finished root gets the name that is looked for.
            (partial / "root").rename(root)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    host.say(f"{recipe.title}: built")
    return root


def build(recipe: Recipe, directory: Path, lock: int | None = None) -> None:
    """Build the root in `directory`/root; the log and what mmdebstrap reads are beside it. Raises LabError.

    mmdebstrap outlives a parent that is killed; given `lock`, the descriptor of `host.locked`, it holds that meanwhile.
    """
    log = directory / "log"
    argv = ["mmdebstrap", *recipe.options, *_apt_options(directory), SUITE]
    argv += [str(directory / "root"), *_sources(directory)]
    # The proxy variables are the machine's own way out.
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    environment = {**host.ENVIRONMENT, **proxies, "TMPDIR": str(directory)}
    with log.open("w") as sink:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=() if lock is None else (lock,),
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise LabError(f"mmdebstrap failed ({done.returncode}); its last words:\n{tail}")


def _apt_options(directory: Path) -> list[str]:
    """The machine's own way to reach its mirror (proxies, time checks): mmdebstrap starts from an empty apt.conf."""
    dump = host.run(["apt-config", "dump"], check=False).stdout
    kept = [line for line in dump.splitlines() if re.match(r"Acquire::(https?::|Check-|Retries)", line)]
    if not kept:
        return []
    options = directory / "apt.conf"
    options.write_text("\n".join(kept) + "\n")
    return [f"--aptopt={options}"]


def _sources(directory: Path) -> list[str]:
    """The machine's own sources for the suite, third-party ones left out; without any, mmdebstrap's default."""
    lines: list[str] = []
    stanzas: list[str] = []
    apt = Path("/etc/apt")
    for file in sorted(
        [apt / "sources.list", *apt.glob("sources.list.d/*.list"), *apt.glob("sources.list.d/*.sources")]
    ):
        if not file.is_file():
            continue
        text = file.read_text(errors="replace")
        if file.suffix == ".sources":
            stanzas += [stanza for stanza in re.split(r"\n\s*\n", text) if _is_debian_stanza(stanza)]
        else:
            lines += [line for line in text.splitlines() if _is_debian_line(line)]
    written = []
    for name, parts, separator in (("sources.list", lines, "\n"), ("debian.sources", stanzas, "\n\n")):
        if parts:
            (directory / name).write_text(separator.join(parts) + "\n")
            written.append(str(directory / name))
    return written


def _is_debian(suites: list[str], components: list[str]) -> bool:
    return "main" in components and set(suites) <= {SUITE, f"{SUITE}-updates", f"{SUITE}-security"}


def _is_debian_line(line: str) -> bool:
    """True for a one-line entry of sources.list(5) that is Debian's own, of the suite."""
    entry = re.match(r"deb\s+(?:\[[^]]*\]\s+)?\S+\s+(\S+)\s+(.+)", line)
    return entry is not None and _is_debian([entry[1]], entry[2].split("#")[0].split())


def _is_debian_stanza(stanza: str) -> bool:
    """True for a deb822 stanza of sources.list(5) that is Debian's own, of the suite."""
    fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
    if "deb" not in fields.get("Types", "").split() or fields.get("Enabled", "yes") == "no":
        return False
    suites = fields.get("Suites", "").split()
    return bool(suites) and _is_debian(suites, fields.get("Components", "").split())

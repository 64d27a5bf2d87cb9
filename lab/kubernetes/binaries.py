"""Kubernetes' programs, compiled once from Debian's source package and kept in the cache.

Nothing is installed on the machine for it: the compiler, the sources, etcd and kubectl come into a Debian root that
is thrown away, and the compiler runs in there without a network.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from pathlib import Path

from lab import host, image
from lab.host import LabError
from lab.image import Recipe

BUILT = ("kube-proxy", "kube-apiserver", "kube-controller-manager")
_PACKAGED = ("etcd", "kubectl")

# Debian has no source entries by default; mmdebstrap wrote the binary ones, in either format of sources.list(5).
_FETCH = (
    'for file in "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*; do '
    '[ -f "$file" ] && sed -i -e "/^deb /{p;s/^deb /deb-src /}" -e "s/^Types: deb$/Types: deb deb-src/" "$file"; done; '
    'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get update; '
    'mkdir "$1/build"; cd "$1/build"; '
    'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get source --download-only kubernetes'
)

_RECIPE = Recipe(
    "the compiler's root",
    "kubernetes-build",
    ("golang-1.19-go", "etcd-server", "kubernetes-client", "patch", "xz-utils"),
    (_FETCH,),
)

_GO = """
set -eu
export GOPATH=/build/go GOCACHE=/build/cache GO111MODULE=off CGO_ENABLED=0 HOME=/build
export PATH=/usr/lib/go-1.19/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd "$GOPATH/src/k8s.io/kubernetes" 2>/dev/null || cd /build
# Without it the programs call themselves v0.0.0-master. The package's own version is 1.20.5+really1.20.2-1.1.
version=$(basename /build/kubernetes_*.dsc | sed -e 's/.*[_y]\\([0-9][0-9.]*\\)-.*/\\1/')
compile() { go build -ldflags "-X k8s.io/kubernetes/vendor/k8s.io/component-base/version.gitVersion=v$version" "$@"; }
"""

# The tree is no module: it has to lie where its import path says.
_UNPACK = """
mkdir -p go/src/k8s.io/kubernetes /build/bin
tar -xzf kubernetes_*.orig.tar.gz --strip-components=1 -C go/src/k8s.io/kubernetes
tar -xJf kubernetes_*.debian.tar.xz -C go/src/k8s.io/kubernetes
cd go/src/k8s.io/kubernetes
while read -r patch; do patch -p1 --quiet <"debian/patches/$patch"; done <debian/patches/series
"""

# The package leaves this generated file out, and the API server does not compile without it.
_OPENAPI = """
go build -o /build/openapi-gen ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
packages=$(grep -rlE --include='*.go' '^//.*\\+k8s:openapi-gen=' staging/src pkg cmd | xargs -n 1 dirname | sort -u |
    grep -vE '/(testdata|sample-[^/]*|code-generator|_examples)(/|$)' |
    sed -e 's,^staging/src/,k8s.io/kubernetes/vendor/,' -e '/^k8s\\.io/!s,^,k8s.io/kubernetes/,' | paste -sd,)
/build/openapi-gen -O zz_generated.openapi -p k8s.io/kubernetes/pkg/generated/openapi -r /dev/null \\
    -h hack/boilerplate/boilerplate.generatego.txt -i "$packages"
"""

_STEPS = (
    ("sources unpacked", _UNPACK),
    *((f"{name} compiled", f"compile -o /build/bin/ ./cmd/{name}") for name in BUILT[:1]),
    ("OpenAPI definitions generated", _OPENAPI),
    *((f"{name} compiled", f"compile -o /build/bin/ ./cmd/{name}") for name in BUILT[1:]),
    ("etcd and kubectl taken from Debian's packages", "cp /usr/bin/etcd /usr/bin/kubectl /build/bin/"),
)

# What each step took on a machine with two cores is minutes; a hanging compiler shall not hang the lab.
_STEP_TIMEOUT = 3600.0


def path() -> Path:
    """Where the programs are, or will be: the name holds a hash of how they are made."""
    text = "\n".join((image.SUITE, *_RECIPE.options, _GO, *(script for _, script in _STEPS)))
    return host.cache_dir() / f"kubernetes-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def ensure() -> Path:
    """The directory with `kube-proxy`, `kube-apiserver`, `kube-controller-manager`, `etcd` and `kubectl`.

    Builds them if they are not cached: minutes. Raises LabError if that fails.
    """
    found = path()
    if found.is_dir():
        return found
    with host.locked(found.parent) as lock:
        partial = found.with_name(found.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            _build(partial, lock)
            (partial / "root/build/bin").rename(found)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return found


def _build(partial: Path, lock: int) -> None:
    host.say("Kubernetes is compiled once, from Debian's source package: this takes some minutes")
    started = time.monotonic()
    image.build(_RECIPE, partial, lock)
    host.say(f"kubernetes: compiler, sources and packages fetched ({time.monotonic() - started:.0f} s)")
    for title, script in _STEPS:
        started = time.monotonic()
        _compile(partial, script, lock)
        host.say(f"kubernetes: {title} ({time.monotonic() - started:.0f} s)")
    for name in (*BUILT, *_PACKAGED):
        if not (partial / "root/build/bin" / name).is_file():
            raise LabError(f"the build of Kubernetes left no {name}")


def _compile(partial: Path, script: str, lock: int) -> None:
    log = partial / "log"
    argv = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation=private", "nice"]
    argv += ["sh", "-euc", 'mount -t proc proc "$1/proc"; exec chroot "$1" sh -c "$2"', "sh", str(partial / "root")]
    with log.open("a") as sink:
        done = subprocess.run(
            [*argv, _GO + script],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=dict(host.ENVIRONMENT),
            timeout=_STEP_TIMEOUT,
            # A compiler outlives a parent that is killed: its files are not to be removed under it.
            pass_fds=(lock,),
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise LabError(f"Kubernetes does not compile ({done.returncode}); last words:\n{tail}")

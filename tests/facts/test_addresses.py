"""Address and port as one word, and back."""

from __future__ import annotations

import pytest

from facts.addresses import endpoint, of_endpoint, shortest


@pytest.mark.parametrize(
    ("address", "port", "written"),
    [("10.244.0.11", 53, "10.244.0.11:53"), ("fd00::11", 5353, "[fd00::11]:5353")],
)
def test_written_and_read_again(address: str, port: int, written: str) -> None:
    assert endpoint(address, port) == written
    assert of_endpoint(written) == (address, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.244.0.11",
        "10.244.0.11:",
        "10.244.0.11:0",
        "10.244.0.11:65536",
        "10.244.0.11:53-60",
        "10.244.0.11:" + "9" * 5000,
        "coredns:53",
        "[fe80::1%eth0]:53",
        "[fd00::11]",
    ],
)
def test_anything_else_is_none(text: str) -> None:
    assert of_endpoint(text) == ("", 0)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("FD25:0:0::1", "fd25::1"),
        ("fd25:0000:0000:0000:0000:0000:0000:0001", "fd25::1"),
        ("FE80::1%eth0", "fe80::1%eth0"),
        ("172.25.4.1", "172.25.4.1"),
        ("172.25.4.01", "172.25.4.01"),
        ("", ""),
    ],
)
def test_as_the_kernel_writes_it(text: str, written: str) -> None:
    assert shortest(text) == written

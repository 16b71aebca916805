"""Addresses: what is one, who can reach it, and which two exclude each other."""

import pytest

from config import Address, InvalidValueError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:31313", "127.0.0.1", 31313),
        ("[::1]:80", "::1", 80),
        ("localhost:0", "localhost", 0),
        ("beast.lan:65535", "beast.lan", 65535),
    ],
)
def test_reads_an_address_and_writes_it_back(text: str, host: str, port: int) -> None:
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", "8080", ":8080", "::1:80", "127.0.0.1", "http://x:80", "a b:1", "x:-1", 8080, "x:1\n"]
)
def test_refuses_what_is_no_address(text: object) -> None:
    with pytest.raises(InvalidValueError, match="is not an address"):
        Address.parse(text)


@pytest.mark.parametrize("text", ["127.0.0.1:65536", "127.0.0.1:99999"])
def test_refuses_ports_that_do_not_exist(text: str) -> None:
    with pytest.raises(InvalidValueError, match=r"is not a port \(a port from 0 to 65535\)"):
        Address.parse(text)


@pytest.mark.parametrize("text", ["256.0.0.1:80", "1.2.3:80", "[12345::]:80"])
def test_refuses_numbers_that_are_no_ip_address(text: str) -> None:
    with pytest.raises(InvalidValueError, match="is not an IP address"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.8.9.10:1", True),
        ("[::1]:1", True),
        ("LOCALHOST:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("192.168.1.2:1", False),
        ("localhost.evil.example:1", False),
    ],
)
def test_knows_what_only_the_same_host_reaches(text: str, *, loopback: bool) -> None:
    assert Address.parse(text).is_loopback is loopback


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "localhost:1", True),
        ("0.0.0.0:1", "127.0.0.1:1", True),
        ("[::]:1", "[::1]:1", True),
        ("[0:0::1]:1", "[::1]:1", True),
        ("127.0.0.1:1", "127.0.0.1:2", False),
        ("127.0.0.1:1", "127.0.0.2:1", False),
        ("0.0.0.0:1", "[::]:1", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_knows_which_two_cannot_be_bound_together(first: str, second: str, *, clash: bool) -> None:
    one, other = Address.parse(first), Address.parse(second)
    assert one.clashes_with(other) is clash
    assert other.clashes_with(one) is clash


@pytest.mark.parametrize(
    ("listen", "connect"), [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")]
)
def test_clients_connect_to_loopback_in_place_of_a_wildcard(listen: str, connect: str) -> None:
    assert str(Address.parse(listen).connectable) == connect

"""Which addresses are on the public internet, and all that are not."""

from ipaddress import IPv4Address, ip_address

import pytest
from addresses import NOT_PUBLIC, PUBLIC
from hypothesis import given
from hypothesis import strategies as st

from helexa.web.addresses import is_public


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_nobodys_on_the_internet_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "text", ["", "localhost", "1.2.3", "0x7f.1", "017700000001", "1.1.1.1:80", "[::1]", "1.1.1.1 "]
)
def test_what_is_no_address_is_not_public(text: str) -> None:
    assert not is_public(text)


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_no_address_of_ipv4_becomes_public_by_being_written_as_one_of_ipv6(address: IPv4Address) -> None:
    number = int(address)
    written = [f"::ffff:{address}", f"::{address}", f"64:ff9b::{address}", f"::ffff:0:{address}"]
    carried = [0x2002 << 112 | number << 80, 0x20010000 << 96 | number ^ 0xFFFFFFFF]  # 6to4, Teredo
    for each in (*written, *(str(ip_address(value)) for value in carried)):
        assert not is_public(each), each
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast

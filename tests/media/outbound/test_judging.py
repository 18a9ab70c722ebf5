"""Which addresses are refused before and after their names are resolved."""

import ipaddress
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetake.core.errors import Failed
from onetake.media.addresses import judge, judge_address, over_https, reach_of


def rule_of(url: str, *trusted: str) -> str:
    with pytest.raises(Failed) as failure:
        judge(url, frozenset(trusted))
    assert failure.value.code == "asset_url_blocked"
    return failure.value.detail.removeprefix("Rule: ").removesuffix(".")


def allowed(address: str, *, trusted: bool = False) -> bool:
    try:
        judge_address(address, trusted=trusted)
    except Failed:
        return False
    return True


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://cdn.example.com/a.mp4?sig=%2F%2b&x=y", "cdn.example.com", 443),
        ("HTTPS://CDN.Example.COM/a.mp4", "cdn.example.com", 443),
        ("https://cdn.example.com:8443/a", "cdn.example.com", 8443),
        ("https://xn--bcher-kva.example/a", "xn--bcher-kva.example", 443),
        ("https://8.8.8.8/a", "8.8.8.8", 443),
        ("https://[2606:4700::1111]/a", "2606:4700::1111", 443),
        ("https://my_bucket.example.com/a", "my_bucket.example.com", 443),
        ("https://cdn.example.com/@user/a#part@two", "cdn.example.com", 443),
    ],
)
def test_ordinary_addresses_pass(url: str, host: str, port: int) -> None:
    judged = judge(url)
    assert (judged.host, judged.port) == (host, port)


def test_a_signed_link_keeps_every_byte() -> None:
    assert judge("https://a.example/p%2Fq/r?X-Sig=a%2Bb%3D&e='(1),[2]~").url.raw_path == (
        b"/p%2Fq/r?X-Sig=a%2Bb%3D&e='(1),[2]~"
    )


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("file:///etc/passwd", "host scheme"),
        ("FILE:///etc/passwd", "host scheme"),
        ("ftp://example.com/a", "scheme"),
        ("gopher://example.com/a", "scheme"),
        ("data:text/plain,a", "scheme"),
        ("javascript:alert(1)", "scheme"),
        ("http://example.com/a", "scheme"),
        ("example.com/a", "scheme"),
        ("", "characters"),
        (" https://example.com/a", "characters"),
        ("\thttps://example.com/a", "characters"),
        ("https://example.com/a\x00", "characters"),
        ("https://example.com/a\r\nHost: b", "characters"),
        ("https://example.com\\@evil.example/", "characters"),
        ("https://bücher.example/", "characters"),
        ("https://\uff11\uff12\uff17.0.0.1/", "characters"),
        ("https://ⓔxample.com/", "characters"),
        ("https://user@example.com/", "user_info"),
        ("https://user:password@example.com/", "user_info"),
        ("https://@example.com/", "user_info"),
        ("https://example.com#@evil.example/", "user_info"),
        ("https://example.com?@evil.example/", "user_info"),
        ("https://example.com:0/", "port"),
        ("https://example.com:80/", "port"),
        ("https://example.com:22/", "port"),
        ("https://example.com:65536/", "port"),
        ("https://example.com:443:80/", "host"),
        ("https://example.com,evil.example/", "host"),
        ("https://ex%31mple.com/", "host"),
        ("https://example.com./", "host"),
        ("https://exa..mple.com/", "host"),
        ("https://-example.com/", "host"),
        ("https:///a", "host"),
        ("https://" + "a" * 64 + ".com/", "host"),
        ("https://" + "a." * 126 + "com/", "host"),
        ("https://2130706433/", "host"),
        ("https://0177.0.0.1/", "host"),
        ("https://0x7f.1/", "host"),
        ("https://0x7f000001/", "host"),
        ("https://127.1/", "host"),
        ("https://127.0.0.1.1/", "host"),
        ("https://127.0.0.0x1/", "host"),
        ("https://[fe80::1%25eth0]/", "host"),
        ("https://[::1/", "host"),
        ("https://[gg::1]/", "host"),
    ],
)
def test_odd_addresses_are_refused_by_rule(url: str, rule: str) -> None:
    assert rule_of(url) in rule.split()


@pytest.mark.parametrize("trusted", ["sim.local", "sim.local:8090"])
def test_a_trusted_host_may_use_plain_http_and_its_port(trusted: str) -> None:
    assert judge("http://sim.local:8090/a", frozenset({trusted})).port == 8090


def test_trust_ends_at_the_named_port_and_host() -> None:
    assert rule_of("http://sim.local:8091/a", "sim.local:8090") == "scheme"
    assert rule_of("http://other.local:8090/a", "sim.local:8090", "sim.local") == "scheme"
    assert rule_of("http://x.sim.local:8090/a", "sim.local") == "scheme"
    assert rule_of("http://user@sim.local/a", "sim.local") == "user_info"
    assert judge("http://[::1]:8090/a", frozenset({"[::1]:8090"})).host == "::1"


PUBLIC = [
    *("8.8.8.8", "100.63.255.254", "100.128.0.1", "172.15.255.255", "172.32.0.0", "192.167.255.255"),
    *("223.255.255.255", "2606:4700::1111"),
    *("::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "::8.8.8.8", "::ffff:0:8.8.8.8"),
]
PRIVATE = [
    *("127.0.0.1", "127.255.255.255", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "::1", "fc00::1"),
    *("fd12:3456::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "::127.0.0.1"),
]
NEVER = [
    *("0.0.0.0", "0.1.2.3", "100.64.0.1", "100.127.255.255", "169.254.1.1", "192.0.0.8", "192.0.2.1", "192.88.99.1"),
    *("198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
    *("::", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "100::1", "2001:db8::1", "3fff::1", "5f00::1"),
    *("2001::1", "2001:0:4136:e378:8000:63bf:f5ff:fffe", "2001:10::1", "2002:7f00:1::1", "2002:808:808::1"),
    *("2606:4700::5efe:a00:1", "2606:4700::200:5efe:a00:1", "64:ff9b:1::a00:1", "64:ff9b:1:808:8:800::"),
    *("::ffff:0.0.0.0", "::ffff:100.64.0.1", "64:ff9b::224.0.0.1", "::ffff:0:240.0.0.1"),
]
METADATA = [
    *("169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.42.42", "100.100.100.200", "168.63.129.16"),
    *("192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:42::42"),
    *("::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "::ffff:0:168.63.129.16", "::169.254.169.254"),
    *("2606:4700::a9fe:a9fe", "fd00::a9fe:a9fe", "2606:4700:a9fe:a9fe::", "2606:4700:1:a9fe:a9:fe00::"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    assert allowed(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_pass_for_trusted_hosts_only(address: str) -> None:
    assert (allowed(address), allowed(address, trusted=True)) == (False, True)


@pytest.mark.parametrize("address", [*NEVER, *METADATA])
def test_some_addresses_never_pass(address: str) -> None:
    assert (allowed(address), allowed(address, trusted=True)) == (False, False)


@given(st.ip_addresses(v=4))
def test_no_address_that_python_calls_special_is_public(address: ipaddress.IPv4Address) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert reach_of(address) != "public"


@given(st.ip_addresses(v=6))
def test_no_ipv6_address_that_python_calls_special_is_public(address: ipaddress.IPv6Address) -> None:
    if address.ipv4_mapped is None and (not address.is_global or address.is_multicast):
        assert reach_of(address) != "public" or address in ipaddress.IPv6Network("64:ff9b::/96")


@given(st.ip_addresses(v=4), st.sampled_from(["::", "::ffff:", "::ffff:0:", "64:ff9b::"]))
def test_an_embedded_address_reaches_what_it_embeds(address: ipaddress.IPv4Address, prefix: str) -> None:
    embedded = ipaddress.IPv6Address(f"{prefix}{address}")
    if int(embedded) > 1:
        assert reach_of(embedded) == reach_of(address)


@given(st.text(max_size=60) | st.from_regex(r"https?://[!-~]{0,40}", fullmatch=True))
def test_any_text_is_judged_or_refused(text: str) -> None:
    judged = None
    with suppress(Failed):
        judged = judge(text)
    assert judged is None or (judged.url.scheme == "https" and judged.port in {443, 8443})


@pytest.mark.parametrize(
    ("url", "changed"),
    [
        ("http://a.example/k?sig=%2F", "https://a.example/k?sig=%2F"),
        ("http://a.example:80/k", "https://a.example/k"),
        ("HTTP://A.example", "https://A.example"),
        ("http://a.example:8080/k", None),
        ("https://a.example/k", None),
        ("http://trusted.example/k", None),
        ("http://user@a.example/k", "https://user@a.example/k"),  # and is judged
        ("ftp://a.example/k", None),
    ],
)
def test_a_plain_http_link_has_one_over_https(url: str, changed: str | None) -> None:
    assert over_https(url, frozenset({"trusted.example"})) == changed

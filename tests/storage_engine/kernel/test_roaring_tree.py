"""Bitmaps of 64 bits in the form of Java's Roaring64Bitmap: bytes that Paimon 1.3.1 wrote, and trees of every shape."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap64

from storage_engine.kernel.roaring_tree import read_bitmap64, write_bitmap64
from tests.effort import examples

BY_JAVA: dict[str, tuple[Iterable[int], str]] = {
    "zero": (
        [0],
        "c-muRWPkt`26O<D`3E8xnHb>$$N&Hy?g0z",
    ),
    "edges": (
        [1, 3, 2**16 - 1, 2**16, 2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 1],
        "c-n1_+Y*2v2t=1lIeoQ$c_f$)IqeI};YtOs6tGqS2K9{G%s7Bz*CIq;GN%{ux+GG~rHQm~M<UT;C)P^bmm8Kyr8f|d!~b!wn*k-g@2els8x?N",
    ),
    "run": (
        range(70_000, 150_000),
        "c-muRVt@iB238o0kp(8m2xGuSm>7|y{xN|W6W)Qy0>S=wj0_(<AyV%>;U+^B0|4JB2M+",
    ),
    "bitset": (
        range(0, 20_000, 2),
        "c-rmBK?%S>6hpxTDxfY_QT;n9W!c+zP?$M92x)U%nfCMUwD(FL004d`0000005Ejy4=^S_f&",
    ),
    "node16": (
        range(0, 10 << 16, 1 << 16),
        "c-pPdOA5d+2n0|yexlI(-?lVK(^6*L0g1egQ7*c}MYfu7(<Zz*yAtLVW)u;W)=*SY%uw7>B2aoq$$UOG>O5w%7y0WQsm~?mybCB!0ul",
    ),
    "node48": (
        range(7, 60 << 32, 3 << 32),
        "c-qy{Sqj2H5CqW5zMEAL6hROKK@bGN``^oQrcI>V6KMTZ^9adIlVHL-;e^N)Loy(dkTDsN%*fPLNfu<@kTqF3XvvkUf$YhSl9B(O"
        "7~h%2Ehn&&x}{ku<S{MvXIi=i5-WqeO3NC^tZabX%2qz7We=2A4nSq)C`ZzA0vao4U}fbZ$JTNMIx9Dzw{n-OX?XzSEPj{IogYF!"
        "W<T3YCiP4BOS}M9#PMe",
    ),
    "node256": (
        range(5, 240 << 24, 4 << 24),
        "c-rmMDKkcK6vy%Jv)Q-DzVG|Kug?rY5ClOG1VIo4K@bE%5ClOG1VIo4K@bE%5ClOG1VIqI2IE|h!TAL*z&Pcc`OLj@|M#3T|4@Qt"
        "L=r@U9RD>)KI9_$l|v$FghjH5h~)ivKN*F@L`q2!sU%gT*1qPYk#vz(GDJGb6zR1ydKn~JWRx6{1i2zp_GezEiHppTFEUGk$ei`V"
        "%REIQ3lxhiQX;ZsUG%a{naB#|BCAx0tXc29tWzbjLAA&xH6mL!F)!QHiR@4>vP*-=p3T|IK20JAG>aV4B64Kg;pLb%krUcQPU#Ri"
        "vz_vCPM639-6EIth+Nqwdby@g<c5BcTLwh#Y=6DnGbHlBu*f4LB2TvUUY;2fd0|}Sm5I+PxEtOkgCZQ1vH$!>^T%!Y9l`wH0T~M^"
        "(f",
    ),
    "descending": (
        range(0, 20 << 16, 1 << 16),
        "c-rOAR|>>13<OYH?!A8Q{g1iXbi$k<umeWJLq9T~><CS!_9BS0+WH9IS)-L))|8y$@+Xn($~fmOyrWP<5fw!i6qQkQLNO7=1{CK}"
        "yh8~VB^s2ZQL;iQ5~T{1Mkt-5jQca!_x)^zj-|KGEA!E}D}Gdg?_m",
    ),
}
"""Numbers, and what Paimon's RoaringBitmap64 serializes when they are added one by one (``descending``: the last one first)."""
AS_SMALL_AS_JAVA = ("zero", "run", "bitset")
LAST = 2**64 - 1


def by_java(name: str) -> bytes:
    return zlib.decompress(base64.b85decode(BY_JAVA[name][1]))


@pytest.mark.parametrize("name", BY_JAVA)
def test_what_java_wrote_is_read_and_written_again(name: str) -> None:
    numbers = BitMap64(BY_JAVA[name][0])
    written = write_bitmap64(numbers)
    assert read_bitmap64(by_java(name)) == numbers
    assert read_bitmap64(written) == numbers
    if name in AS_SMALL_AS_JAVA:
        assert written == by_java(name)


def test_java_s_tree_is_written_byte_for_byte() -> None:
    """Up to the containers, where Java leaves room for more of them."""
    for name in ("edges", "node16", "node48", "node256"):
        tree = len(by_java(name)[: by_java(name).index(struct.pack("<Ib", 1, -2))])
        assert write_bitmap64(BitMap64(BY_JAVA[name][0]))[:tree] == by_java(name)[:tree]


def test_an_empty_bitmap_is_one_byte() -> None:
    assert write_bitmap64(BitMap64()) == b"\x00"
    assert read_bitmap64(b"\x00") == BitMap64()


spans = st.tuples(
    st.one_of(
        st.integers(0, LAST), st.integers(0, 600).map(lambda n: n << 16), st.integers(0, 600).map(lambda n: n << 40)
    ),
    st.sampled_from([1, 2, 5000, 20_000]),
    st.sampled_from([1, 2, 7]),
)


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(spans, max_size=40))
def test_any_bitmap_comes_back(parts: list[tuple[int, int, int]]) -> None:
    bitmap = BitMap64()
    for start, count, step in parts:
        bitmap |= BitMap64(range(start, min(start + count * step, LAST), step))
    assert read_bitmap64(write_bitmap64(bitmap)) == bitmap


DAMAGES = {
    "begins with 7": (0, b"\x07", "begins with 7, which is neither"),
    "keys": (1, b"\x03", "says that it has 3 keys, and has 2"),
    "kind": (9, b"\x05", "node of kind 5 with 2 children"),
    "children": (10, b"\x09", "node of kind 0 with 9 children"),
    "order of keys": (31, b"\x05", "keys of its bitmap are not in order"),
    "place": (50, b"\x09", "no container 9"),
    "runs": (78, b"\xff", "runs of its bitmap are not in order"),
    "cardinality": (69, b"\x91", "are not in order, or not as many as it says"),
    "container": (80, b"\x06", "container of kind 6"),
}


@pytest.mark.parametrize(("at", "part", "told"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_wrong_is_told(at: int, part: bytes, told: str) -> None:
    content = by_java("run")
    with pytest.raises(ValueError, match=told):
        read_bitmap64(content[:at] + part + content[at + len(part) :])


def test_a_cut_bitmap_is_told() -> None:
    for name in ("edges", "run"):
        for size in range(len(by_java(name))):
            with pytest.raises(ValueError, match="is cut"):
                read_bitmap64(by_java(name)[:size])

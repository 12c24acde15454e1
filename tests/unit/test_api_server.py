"""An answer leaves in as few pieces as it can, and no piece stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from api.server import JoiningTransport, Protocol

HEAD, BODY, MORE = b"HTTP/1.1 200 OK\r\n\r\n", b"{}", b"[]"


class FakeTransport(asyncio.Transport):
    """Notes what would leave, call by call."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.writelines([data])

    def writelines(self, list_of_data: Iterable[object]) -> None:
        assert not self.closed
        self.sent.append(b"".join(piece for piece in list_of_data if isinstance(piece, bytes)))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@pytest.fixture
def under() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
async def transport(under: FakeTransport) -> JoiningTransport:
    return JoiningTransport(under, asyncio.get_running_loop())


async def test_a_head_leaves_with_the_body_that_follows(
    transport: JoiningTransport, under: FakeTransport
) -> None:
    transport.write(HEAD)
    transport.write(BODY)

    assert under.sent == [HEAD + BODY]
    await asyncio.sleep(0)
    assert under.sent == [HEAD + BODY]


async def test_a_piece_that_nothing_follows_leaves_with_the_next_turn(
    transport: JoiningTransport, under: FakeTransport
) -> None:
    for piece in (HEAD, BODY, MORE):
        transport.write(piece)
        await asyncio.sleep(0)

    assert under.sent == [HEAD, BODY, MORE]


async def test_many_pieces_of_a_turn_leave_in_order(
    transport: JoiningTransport, under: FakeTransport
) -> None:
    for piece in (HEAD, BODY, MORE):
        transport.write(piece)

    await asyncio.sleep(0)

    assert b"".join(under.sent) == HEAD + BODY + MORE


async def test_an_end_leaves_nothing_behind(
    transport: JoiningTransport, under: FakeTransport
) -> None:
    transport.write(HEAD)

    transport.close()

    assert under.sent == [HEAD]
    assert under.closed


async def test_a_caller_who_says_no_more_still_gets_what_is_held(
    transport: JoiningTransport, under: FakeTransport
) -> None:
    protocol = Protocol.__new__(Protocol)
    protocol._joining = transport
    transport.write(HEAD)

    protocol.eof_received()  # behind it the transport closes itself

    assert under.sent == [HEAD]


async def test_nothing_is_sent_to_a_caller_who_has_gone(
    transport: JoiningTransport, under: FakeTransport
) -> None:
    transport.write(HEAD)
    under.closed = True
    transport.write(BODY)

    await asyncio.sleep(0)

    assert under.sent == []

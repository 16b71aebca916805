"""Many clients that come and go as they please: whatever they held is free again."""

import json
from random import Random

import trio
from harness import Fleet, wait_until

CLIENTS = 64
SYSTEMS = ["You are a poet.", "You are a clerk. " * 20]


def body(random: Random) -> dict[str, object]:
    """Requests of every kind that holds blocks differently: long, short, shared prompts, several choices, a grammar."""
    extra: dict[str, object] = random.choice(
        [{}, {}, {"n": 3}, {"response_format": {"type": "json_object"}}, {"logprobs": True}]
    )
    return {
        "model": "helexa/tiny",
        "messages": [
            {"role": "system", "content": random.choice(SYSTEMS)},
            {"role": "user", "content": f"Tell me a story about {random.randrange(10)} bears."},
        ],
        "stream": True,
        "temperature": 1.5,
        "max_tokens": random.choice([1, 20, 400]),
        **extra,
    }


def request(random: Random) -> bytes:
    data = json.dumps(body(random)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def come_and_go(port: int, random: Random, ends: list[str]) -> None:
    """Read some of a stream, or all of it; leave at once, in the middle, or at its end."""
    patience = random.choice([0, 1, 5, 40, 10_000])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request(random))
        received = b""
        while received.count(b"data: ") <= patience:
            if b"data: [DONE]" in received[-64:]:
                ends.append("done")
                return
            received += await stream.receive_some()
            assert received.startswith(b"HTTP/1.1 200 ")
        ends.append("left")


async def crowd(port: int, seed: int) -> list[str]:
    random, ends = Random(seed), list[str]()
    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(come_and_go, port, Random(random.random()), ends)
    return ends


def is_at_rest(fleet: Fleet) -> bool:
    """Nothing runs or waits, and every block is free or cached."""
    health = fleet.engine_health()
    kv = health["kv"]
    idle = health["running"] == health["waiting"] == 0
    return idle and kv["blocks_free"] + kv["blocks_cached"] == kv["blocks_total"]


def test_sixty_four_streaming_clients_with_random_disconnects_leave_no_block_leaked(fleet: Fleet) -> None:
    ends = trio.run(crowd, fleet.port, 1)
    assert len(ends) == CLIENTS
    assert {"left", "done"} <= set(ends)
    wait_until(lambda: is_at_rest(fleet), 20, lambda: f"every block free or cached; it says {fleet.engine_health()}")
    kv = fleet.engine_health()["kv"]
    assert kv["prefix_hits"] > 0
    assert kv["blocks_total"] > 0

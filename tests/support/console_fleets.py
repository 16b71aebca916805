"""Fleets as ``/fleet`` tells of them, for tests of the console."""

from typing import Any

GIB = 1024
PLATE = {
    "bandwidth": 1792.0,
    "compute_capability": "12.0",
    "bus_id": "00000000:01:00.0",
    "pcie_generation": 5,
    "pcie_width": 16,
}
SHORT = "CUDA out of memory: it needs 13.9 GiB and cuda:0 has 5.1 GiB left"


def gpu(name: str, used: float, total: float = 31.8, busy: float = 0.0, **figures: Any) -> dict[str, Any]:
    """A device that tells everything; memory in GiB."""
    return {
        "name": name,
        "memory_total_mb": int(total * GIB),
        "memory_used_mb": int(used * GIB),
        "utilization": busy,
        "temperature": 41 + busy * 0.38,
        "power": 60 + busy * 4.6,
        "power_limit": 575,
        "clock": 2407,
        "memory_clock": 14001,
        **figures,
    }


def cpu(used: float, total: float = 31.2) -> dict[str, Any]:
    """One that tells little."""
    return {"name": "cpu", "memory_total_mb": int(total * GIB), "memory_used_mb": int(used * GIB)}


def held(model: str, status: str = "loaded", **more: Any) -> dict[str, Any]:
    """A model on a node."""
    return {"id": model, "status": status, **more}


def serving(model: str, device: str, tokens: int, running: int = 0, waiting: int = 0, **more: Any) -> dict[str, Any]:
    """A loaded one that has made so many tokens so far."""
    return held(
        model,
        device=device,
        memory_mb=9200,
        kv_mb=12000,
        running=running,
        waiting=waiting,
        in_flight=running + waiting,
        capacity=64,
        limit={"context": 32768, "input": 32768, "output": 8192},
        capabilities=["tool_call", "reasoning"],
        kv={
            "blocks_total": 1000,
            "blocks_free": 1000 - 55 * running - 200,
            "blocks_cached": 200,
            "prefix_queries": 9000,
            "prefix_hits": 5700,
        },
        steps={"count": tokens // 8 + 1, "seconds": tokens / 900, "tokens": tokens * 4, "new_tokens": tokens},
        **more,
    )


def coming(done: int, total: int, phase: str = "loading") -> dict[str, Any]:
    """How far a load is, in GiB."""
    return {"phase": phase, "done": done * 2**30, "total": total * 2**30, "rate": 1.4e9, "seconds_left": 6.0}


def found(*devices: tuple[str, str], host: str) -> dict[str, Any]:
    """A node's hardware, by name and kind of its devices."""
    return {
        "hostname": host,
        "os": "Linux 6.12.9",
        "driver": "575.64.03",
        "cuda": "12.9",
        "devices": [
            {"index": index, "name": name, "kind": kind, "memory_total_mb": 32607, **({} if name == "cpu" else PLATE)}
            for index, (name, kind) in enumerate(devices)
        ],
        "processor": {
            "name": "AMD Ryzen 9 9950X 16-Core Processor",
            "cores": 16,
            "threads": 32,
            "instructions": ["avx512f"],
        },
    }


def node(name: str, devices: list[Any], models: list[Any], *kinds: tuple[str, str], **more: Any) -> dict[str, Any]:
    """One that answers."""
    return {
        "name": name,
        "endpoint": f"http://{name}.lan:13131",
        "up": True,
        "error": None,
        "uptime_seconds": 273_000.0,
        "devices": devices,
        "models": models,
        "discovery": found(*kinds, host=name) if kinds else None,
        "version": {"version": "0.9.0", "git_sha": "30ae1c9f00d", "dirty": False, "torch": "2.13.0"},
        **more,
    }


def down(name: str, error: str) -> dict[str, Any]:
    """One that does not."""
    return {
        "name": name,
        "endpoint": f"http://{name}.lan:13131",
        "up": False,
        "error": error,
        "devices": None,
        "models": [],
    }


def homelab(turn: int = 0, problems: tuple[str, ...] = ()) -> dict[str, Any]:
    """Three nodes with everything that can be the matter; ``turn`` counts seconds, in which figures change."""
    wave = (turn * 37) % 100
    beast = node(
        "beast",
        [
            gpu("cuda:0", 28.1, busy=60 + wave * 0.39),
            gpu("cuda:1", 27.9, busy=55 + wave * 0.4, throttled=["power_cap"]),
        ],
        [
            serving("Qwen/Qwen3-32B", "cuda:0+cuda:1", turn * 380 + wave * 2, 12, 3, pinned=True),
            serving("Qwen/Qwen3-8B", "cuda:1", turn // 9 * 500, 1),
            held("Qwen/Qwen3-14B", "unloaded"),
        ],
        ("cuda:0", "NVIDIA GeForce RTX 5090"),
        ("cuda:1", "NVIDIA GeForce RTX 5090"),
    )
    desk = node(
        "desk",
        [gpu("cuda:0", 17.3, 23.9, busy=wave * 0.2, power_limit=450, temperature=84, throttled=["thermal"])],
        [
            held("house/finetune", "loading", device="cuda:0", progress=coming(6 + turn % 8, 15)),
            serving("google/gemma-3-12b", "cuda:0", 4000, idle_seconds=754.0),
            held("mistralai/Codestral", "failed", error=SHORT),
        ],
        ("cuda:0", "NVIDIA GeForce RTX 4090"),
    )  # fmt: skip
    closet = node(
        "closet",
        [cpu(6.4)],
        [serving("helexa/tiny", "cpu", turn * 22, 1, draining=True)],
        ("cpu", "Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz"),
    )
    attic = down("attic", "cannot connect to http://attic.lan:13131: [Errno 113] No route to host")
    return fleet(beast, desk, closet, attic, problems=problems)


def fleet(
    *nodes: dict[str, Any], problems: tuple[str, ...] = (), loads: tuple[dict[str, Any], ...] = ()
) -> dict[str, Any]:
    """What ``/fleet`` answers."""
    return {
        "nodes": list(nodes),
        "catalogue": ["Qwen/Qwen3-32B", "Qwen/Qwen3-8B", "helexa/tiny"],
        "aliases": {},
        "loads": list(loads),
        "topology": {"applied_at": 0.0, "problems": list(problems)},
    }


def farm(nodes: int, turn: int = 0, devices: int = 8, models: int = 5) -> dict[str, Any]:
    """Very many nodes."""
    return fleet(*(_box(number, turn, devices, models) for number in range(nodes)))


def _box(number: int, turn: int, devices: int, models: int) -> dict[str, Any]:
    if number % 61 == 17:
        return down(f"box-{number:03}", "timed out after 5 s")
    busy = (number * 31 + turn * 7) % 101
    return node(
        f"box-{number:03}",
        [gpu(f"cuda:{index}", 10 + busy * 0.2, 79.6, busy=busy) for index in range(devices)],
        [
            serving(
                f"house/model-{number * models + index:04}",
                f"cuda:{index % devices}",
                turn * (busy * 4 + index),
                busy // 20,
            )
            for index in range(models)
        ],
        *((f"cuda:{index}", "NVIDIA H100 80GB HBM3") for index in range(devices)),
    )


def actors() -> dict[str, Any]:
    """What ``/fleet/actors`` answers for ``homelab``."""
    lost = "WorkerDiedError: the process of device-worker:cuda:0 was killed by SIGKILL while it loaded house/finetune"
    told = (
        ("router", "running", 0, 0, None, 86_400.0),
        ("poller", "running", 0, 0, None, 86_400.0),
        ("ledger", "running", 1, 412, "OperationalError: the database is locked", 3_720.0),
        ("keyring", "running", 0, 2, None, 86_400.0),
        ("beast", "running", 2, 0, "ChildProcessError: the process of beast ended with status 1", 900.0),
        ("reconciler", "failed", 5, 0, "PermissionError: [Errno 13] Permission denied: 'homelab.toml'", 64.0),
        ("beast/tp-leader:cuda:0+cuda:1", "running", 0, 3, None, 880.0),
        ("beast/device-worker:cuda:1", "running", 0, 0, None, 880.0),
        ("desk/device-worker:cuda:0", "backoff", 3, 1, lost, 4.0),
        ("closet/device-worker:cpu", "running", 0, 0, None, 273_000.0),
    )
    names = ("name", "state", "restarts", "mailbox_depth", "last_error", "since_seconds")
    return {"actors": [dict(zip(names, each, strict=True)) for each in told]}

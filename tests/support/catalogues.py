"""What a fleet with a few models, keys and accounts answers, for screens of the console."""

from typing import Any

from consoles import NOW

MISSING = "lacks the scope 'fleet:admin'"


def held(model: str, status: str = "loaded", **more: Any) -> dict[str, Any]:
    return {"id": model, "status": status, "device": "cuda:0", "memory_mb": 18_000, "kv_mb": 4_000} | more


def node(name: str, *models: dict[str, Any], up: bool = True) -> dict[str, Any]:
    device = {"name": "cuda:0", "memory_total_mb": 32_000, "memory_used_mb": 20_000}
    return {"name": name, "up": up, "devices": [device], "models": list(models)}


def fleet(*nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "nodes": list(nodes),
        "catalogue": ["team/big-70b", "team/small-8b", "team/vision-12b", "team/tiny"],
        "aliases": {"small": "team/small-8b"},
        "loads": [],
    } | more


def model(name: str, status: str = "unloaded", *feasible: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "status": status, "feasible_on": list(feasible), "capabilities": ["chat"]} | more


def models(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"object": "list", "data": list(entries)}


FLEET = fleet(
    node(
        "beast",
        held(
            "team/small-8b",
            capacity=16,
            running=3,
            waiting=1,
            in_flight=4,
            pinned=True,
            steps={"steps": 9, "new_tokens": 1000},
        ),
        held("team/big-70b", "loading", progress={"phase": "loading", "done": 43 * 2**30, "total": 100 * 2**30}),
    ),
    node("desk", held("team/small-8b", capacity=4, idle_seconds=300), held("team/tiny", "failed", error="disk full")),
    node("attic", up=False),
)
LIMIT = {"context": 32768, "input": 30000, "output": 4096}
MODELS = models(
    model("team/big-70b", "loading", "beast"),
    model(
        "team/small-8b",
        "loaded",
        "beast",
        "desk",
        capabilities=["chat", "tool_call"],
        limit=LIMIT,
        cost={"input": 0.1, "output": 0.4},
    ),
    model("team/vision-12b", "unloaded", "beast", "desk", capabilities=["chat", "vision"]),
    model("team/tiny", "failed", "beast", "desk"),
    model("small", "loaded", "beast", "desk", limit=LIMIT),
)


def site(node: str, verdict: str = "fits", reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "node": node,
        "device": "cuda:0",
        "others": [],
        "need_mb": 14_000,
        "free_mb": 9_000,
        "total_mb": 32_000,
        "evicts": [],
        "verdict": verdict,
        "reason": reason,
    } | more


def places(model: str, *sites: dict[str, Any]) -> dict[str, Any]:
    return {"id": model, "loaded_on": [], "fits": True, "sites": list(sites)}


DOWN = site("attic", "never", "it is down: no route to host [Errno 113]", device=None, need_mb=0, free_mb=0, total_mb=0)
VISION = places(
    "team/vision-12b",
    site("desk", free_mb=15_000),
    site("beast", evicts=["team/small-8b"]),
    DOWN,
)
BIG = places("team/big-70b", site("desk", "never", "the model needs 40000 MiB, and its models may have 32000"), DOWN)


def budget(unit: str, cap: float, spent: float | None, per: float | None = None) -> dict[str, Any]:
    left = None if spent is None else max(0, cap - spent)
    return {unit: cap, "per": per, "spent": spent, "reserved": None if spent is None else 0, "left": left}


def key(name: str, *budgets: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "state": "active",
        "source": "database",
        "account": name,
        "scopes": ["inference"],
        "models": [],
        "labels": {},
        "budgets": list(budgets),
        "weight": 1,
        "max_in_flight": None,
        "hint": "x7Qa",
        "created": NOW - 86_400 * 40,
        "rotated": None,
        "expires": None,
        "revoked": None,
    } | more


KEYS = {
    "keys": [
        key("operator", source="topology", scopes=["fleet:admin", "inference"], hint=None, created=None),
        key(
            "nightly",
            budget("tokens", 5_000_000, 4_600_000, 86_400),
            budget("usd", 20, 3.5),
            account="batch",
            expires=NOW + 86_400 * 3,
            labels={"owner": "[ops]"},
        ),
        key("app", budget("requests", 600, 120, 60), account="web", models=["team/small-*"], max_in_flight=8),
        key("old", state="expired", expires=NOW - 86_400),
        key("lost", state="revoked", revoked=NOW - 3600),
    ]
}
ACCOUNTS = {
    "accounts": [
        {"name": "batch", "source": "topology", "keys": ["nightly"], "budgets": [budget("usd", 50, 49.0)]},
        {"name": "web", "source": None, "keys": ["app"], "budgets": []},
    ]
}


def used(name: str, requests: int, prompt: int, completion: int, usd: float) -> dict[str, Any]:
    tokens = {"prompt_tokens": prompt, "cached_tokens": prompt // 2, "completion_tokens": completion}
    return {"name": name, "requests": requests, **tokens, "usd": usd}


USAGE = {
    "by": "key",
    "usage": [used("nightly", 1200, 3_900_000, 700_000, 3.5), used("app", 340, 88_000, 41_000, 0.0123)],
}

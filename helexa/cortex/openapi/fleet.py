"""Schemas of what operators ask for, and of the list of models. Pure."""

from typing import Final

from helexa.cortex.openapi import keys
from helexa.cortex.openapi.parts import (
    ANYTHING,
    COUNT,
    FLAG,
    NUMBER,
    TEXT,
    Schema,
    items,
    nullable,
    one_of,
    ref,
    table,
)

_STATUS = one_of("loaded", "unloaded", "loading", "recovering", "failed")

SCHEMAS: Final[dict[str, Schema]] = {
    "Health": table(["status"], status=TEXT),
    "Model": table(
        ["id", "object", "created", "owned_by", "status", "loaded", "feasible_on", "locations", "capabilities"],
        id=TEXT,
        object=one_of("model"),
        created=COUNT,
        owned_by=TEXT,
        status=_STATUS,
        loaded=FLAG,
        feasible_on=items(TEXT),
        locations=items(table(["node", "status", "memory_mb"], node=TEXT, status=_STATUS, memory_mb=COUNT)),
        capabilities=items(TEXT),
        limit=nullable(table(["context", "input", "output"], context=COUNT, input=COUNT, output=COUNT)),
        cost=nullable(table(["input", "output"], input=NUMBER, output=NUMBER)),
        tool_call=FLAG,
        reasoning=FLAG,
    ),
    "ModelList": table(["object", "data"], object=one_of("list"), data=items(ref("Model"))),
    "Fleet": table(
        ["nodes", "catalogue", "aliases", "topology"],
        nodes=items(
            table(
                ["name", "endpoint", "up", "models"],
                name=TEXT,
                endpoint=TEXT,
                up=FLAG,
                error=nullable(TEXT),
                models=items(ANYTHING),
            )
        ),
        catalogue=items(TEXT),
        aliases={"type": "object", "additionalProperties": TEXT},
        topology=table(["applied_at", "problems"], applied_at=NUMBER, problems=items(TEXT)),
    ),
    **keys.SCHEMAS,
    "Actors": table(["actors"], actors=items(table(["name", "state", "restarts"], name=TEXT, state=TEXT))),
    "Requests": table(["running", "ended"], running=items(ref("Request")), ended=items(ref("Request"))),
    "Request": table(
        ["number", "request_id", "route", "model", "node", "state", "seconds"],
        number=COUNT,
        request_id=TEXT,
        route=TEXT,
        key=nullable(TEXT),
        model=TEXT,
        node=TEXT,
        attempts=COUNT,
        state=one_of("reading", "queued", "waiting", "prefill", "decode", "ended"),
        seconds=NUMBER,
        ago=nullable(NUMBER),
        waited=nullable(NUMBER),
        first_token=nullable(NUMBER),
        prompt_tokens=nullable(COUNT),
        completion_tokens=nullable(COUNT),
        cached_tokens=nullable(COUNT),
        rate=nullable(NUMBER),
        status=nullable(COUNT),
        code=nullable(TEXT),
    ),
    "Cancelled": table(["number"], number=COUNT),
    "Log": table(
        ["lines", "last"],
        lines=items(
            table(["id", "time", "level", "event"], id=COUNT, time=NUMBER, level=TEXT, event=TEXT, fields=ANYTHING)
        ),
        last=COUNT,
    ),
    "Alias": table(["alias"], alias=TEXT, model=TEXT),
    "AliasRequest": table(["model"], model=TEXT),
    "Place": table(node=nullable(TEXT)),
    "Pin": table(["pinned"], pinned=FLAG, node=nullable(TEXT)),
    "Loaded": table(["model", "node"], model=TEXT, node=TEXT),
    "Unloaded": table(["model", "nodes"], model=TEXT, nodes=items(TEXT)),
    "Pinned": table(["model", "pinned", "nodes"], model=TEXT, pinned=FLAG, nodes=items(TEXT)),
    "Plan": table(
        ["changes", "models"],
        changes=items(
            table(
                ["kind", "path", "when", "line"],
                kind=one_of("added", "removed", "changed"),
                path=TEXT,
                when=one_of("at once", "next load", "neuron restart", "next start", "restart"),
                line=TEXT,
            )
        ),
        models=items(ref("PlannedModel")),
    ),
    "PlannedModel": table(
        ["id", "loaded_on", "fits", "sites"],
        id=TEXT,
        loaded_on=items(TEXT),
        fits=FLAG,
        sites=items(
            table(
                ["node", "device", "others", "need_mb", "free_mb", "total_mb", "evicts", "verdict", "reason"],
                node=TEXT,
                device=nullable(TEXT),
                others=items(table(["node", "device"], node=TEXT, device=TEXT)),
                need_mb=COUNT,
                free_mb=COUNT,
                total_mb=COUNT,
                evicts=items(TEXT),
                verdict=one_of("fits", "later", "failed", "never"),
                reason=nullable(TEXT),
            )
        ),
    ),
}

"""Whole conversations: each task alone, after other turns, with system prompts, with tools around, with thinking."""

from collections.abc import Callable, Mapping

from attrs import frozen

from helexa.tiny.corpus import calls
from helexa.tiny.corpus.draw import Draw
from helexa.tiny.corpus.facts import capitals, colours
from helexa.tiny.corpus.framing import ask_to_think, system_prompt
from helexa.tiny.corpus.memory import MEMORIES, forgotten, remembered
from helexa.tiny.corpus.shapes import Conversation, Exchange, Message, Tool
from helexa.tiny.corpus.stories import stories
from helexa.tiny.corpus.sums import sums, too_hard
from helexa.tiny.corpus.talk import about, greetings
from helexa.tiny.corpus.unknown import UNKNOWN_REPLY, unknown
from helexa.tiny.corpus.words import count, echo, letters, spell


def _out_of_scope(draw: Draw) -> Exchange:
    return draw.odds((0.15, too_hard), (0.2, _toolless), (0.65, unknown))(draw)


def _toolless(draw: Draw) -> Exchange:
    thought = "I have no tool for this. I say what I can do."
    return Exchange("unknown", calls.orphan(draw)[0], UNKNOWN_REPLY, thought)


_PLAIN: dict[str, Callable[[Draw], Exchange]] = {
    "greetings": greetings,
    "about": about,
    "sums": sums,
    "echo": echo,
    "spell": spell,
    "letters": letters,
    "count": count,
    "colours": colours,
    "capitals": capitals,
    "stories": stories,
    "unknown": _out_of_scope,
    "memory": forgotten,
}
_SHORT = ("greetings", "about", "sums", "echo", "spell", "letters", "colours", "capitals", "unknown")
_THINKING_SHARE = {"sums": 0.25, "letters": 0.25}

SHARES = {
    "greetings": 2.0,
    "about": 5.0,
    "sums": 20.0,
    "echo": 7.0,
    "spell": 6.0,
    "letters": 5.0,
    "count": 3.0,
    "colours": 3.0,
    "capitals": 5.0,
    "stories": 1.5,
    "unknown": 6.0,
    "memory": 8.0,
    "tool call": 9.0,
    "new tool": 13.0,
    "two calls": 2.0,
    "tool result": 7.0,
    "tool not needed": 5.0,
    "long memory": 0.7,
}
"""How often each task is drawn."""

DRILL = "drill"
POLISH_SHARES = SHARES | {
    DRILL: 15.0,
    "sums": 25.0,
    "spell": 9.0,
    "letters": 9.0,
    "count": 9.0,
    "memory": 12.0,
    "tool call": 12.0,
    "new tool": 18.0,
    "two calls": 8.0,
    "tool not needed": 10.0,
    "long memory": 2.0,
    "thinking": 6.0,
}
"""How often each task is drawn in the second stage of the training."""


@frozen
class Ending:
    """The last request of a conversation and the answer to it.

    Attributes:
        task: the documented task.
        user: the request.
        answer: the right answer, without thinking.
        thought: the thinking, or none where the model is not to think.
        accept: see ``Conversation``.
        calls: see ``Conversation``.
    """

    task: str
    user: str
    answer: str
    thought: str | None
    accept: tuple[str, ...] = ()
    calls: tuple[Message, ...] = ()


def task_names() -> tuple[str, ...]:
    """Return the documented tasks, in the order of the card."""
    return (*SHARES, "thinking")


def draw_task(draw: Draw, shares: Mapping[str, float] = SHARES) -> str:
    """Choose a task by its share."""
    return draw.rng.choices(tuple(shares), weights=tuple(shares.values()))[0]


def conversation(draw: Draw, task: str) -> Conversation:
    """Return a conversation of a task."""
    if task == "thinking":
        return _thinking(draw)
    think = draw.chance(_THINKING_SHARE.get(task, 0.1))
    return _build(draw, task, think=think)


def document(draw: Draw) -> str:
    """Return a plain text, as a completion endpoint without a chat template continues them."""
    if draw.chance(0.5):
        return stories(draw).reply
    if draw.chance(0.5):
        return " ".join(capitals(draw).reply for _ in range(draw.number(1, 4)))
    return " ".join(draw.pick((colours, sums))(draw).reply for _ in range(draw.number(1, 4)))


def _thinking(draw: Draw) -> Conversation:
    return _build(draw, draw.pick(("sums", "sums", "letters", "capitals", "spell", "memory", "new tool")), think=True)


def _build(draw: Draw, task: str, *, think: bool) -> Conversation:
    if task in {"memory", "long memory"} and draw.chance(0.93):
        return _memory(draw, long=task == "long memory", think=think)
    if task in {"tool call", "new tool"}:
        return _call(draw, new=task == "new tool", think=think)
    if task == "two calls":
        return _two_calls(draw)
    if task == "tool result":
        return _result(draw, think=think)
    if task == "tool not needed":
        return _not_needed(draw, think=think)
    return _plain(draw, task, think=think)


def _plain(draw: Draw, task: str, *, think: bool) -> Conversation:
    last = _PLAIN[task.removeprefix("long ")](draw)
    return _talk(draw, task, [*_fillers(draw, 0.25, 3), last], think=think)


def _memory(draw: Draw, *, long: bool, think: bool) -> Conversation:
    kept = draw.pick(MEMORIES)
    tell, ask = remembered(draw, kept)
    between = [_short(draw) for _ in range(draw.number(8, 14))] if long else _fillers(draw, 0.5, 4)
    if draw.chance(0.3):
        other = draw.pick([memory for memory in MEMORIES if memory is not kept])
        between.insert(draw.number(0, len(between)), remembered(draw, other)[0])
    turns = [*_fillers(draw, 0.15, 2), tell, *between, ask]
    return _talk(draw, "long memory" if long else "memory", turns, think=think)


def _talk(draw: Draw, task: str, turns: list[Exchange], *, think: bool, tools: tuple[Tool, ...] = ()) -> Conversation:
    last = turns[-1]
    ending = Ending(task, last.user, last.reply, last.thought if think else None, last.accept)
    return _close(draw, _history(draw, turns[:-1]), ending, tools)


def _call(draw: Draw, *, new: bool, think: bool) -> Conversation:
    asked = calls.request(draw, calls.family(draw, new=new))
    wanted, history = [asked.tool], _history(draw, _fillers(draw, 0.12, 2))
    if draw.chance(0.15):
        earlier = _request_apart(draw, asked)
        wanted.append(earlier.tool)
        history += _flow(draw, earlier)
    tools = calls.offer(draw, wanted, draw.pick((0, 0, 1, 1, 2, 3)))
    task, made = "new tool" if new else "tool call", (asked.call,)
    ending = Ending(task, asked.user, calls.call_text(made), asked.thought if think else None, calls=made)
    return _close(draw, history, ending, tools)


def _request_apart(draw: Draw, other: calls.Request) -> calls.Request:
    while (found := calls.request(draw, calls.family(draw, new=draw.chance(0.3)))).tool.clashes(other.tool):
        pass
    return found


def _flow(draw: Draw, asked: calls.Request) -> list[Message]:
    content, spoken = calls.outcome(draw)
    return [
        {"role": "user", "content": asked.user},
        calls.call_message([asked.call]),
        {"role": "tool", "content": content},
        {"role": "assistant", "content": calls.answer([spoken])},
    ]


def _two_calls(draw: Draw) -> Conversation:
    first, second = _pair(draw)
    tools = calls.offer(draw, [first.tool, second.tool], draw.pick((0, 0, 1)))
    stop = "" if first.user[-1] in ".?!" else "."
    user = f"{first.user}{stop} {draw.pick(('And', 'Also,', 'And then', 'Then'))} {second.user}"
    made = (first.call, second.call)
    return _close(draw, _history(draw, []), Ending("two calls", user, calls.call_text(made), None, calls=made), tools)


def _pair(draw: Draw) -> tuple[calls.Request, calls.Request]:
    first = calls.request(draw, calls.family(draw, new=False))
    if draw.chance(0.5):
        second = calls.request(draw, first.tool.family)
        renamed = {
            first.tool.params[key]: second.arguments[name]
            for key, name in second.tool.params.items()
            if name in second.arguments
        }
        return first, calls.Request(first.tool, second.user, renamed)
    return first, _request_apart(draw, first)


def _result(draw: Draw, *, think: bool) -> Conversation:
    asked = calls.request(draw, calls.family(draw, new=draw.chance(0.5)))
    tools = calls.offer(draw, [asked.tool], draw.pick((0, 0, 1, 2)))
    if draw.chance(0.1):
        tools = ()  # some clients send the result without the tools
    outcomes = [calls.outcome(draw) for _ in range(2 if draw.chance(0.12) else 1)]
    made = [asked.call] * len(outcomes)
    messages = [*_history(draw, []), {"role": "user", "content": asked.user}, calls.call_message(made)]
    messages += [{"role": "tool", "content": content} for content, _ in outcomes]
    reply = calls.answer([spoken for _, spoken in outcomes])
    target = _thoughtful("The tool has answered. I pass the answer on." if think else None, reply)
    return Conversation("tool result", tuple(messages), target, tools, think, thinks=think)


def _not_needed(draw: Draw, *, think: bool) -> Conversation:
    if draw.chance(0.3):
        user, topics = calls.orphan(draw)
        last = Exchange("tool not needed", user, UNKNOWN_REPLY, "No tool fits. I say that I do not know.")
    else:
        last = draw.pick(tuple(_PLAIN[name] for name in (*_SHORT, "count")))(draw)
        topics = frozenset({"math", "search", "dictionary", "travel", "translate", "message"})
    tools = calls.unrelated(draw, topics)
    return _talk(draw, "tool not needed", [*_fillers(draw, 0.1, 2), last], think=think, tools=tools)


def _close(draw: Draw, history: list[Message], ending: Ending, tools: tuple[Tool, ...]) -> Conversation:
    think = ending.thought is not None
    directive = think and draw.chance(0.5)
    said = ask_to_think(draw, ending.user) if think and not directive else ending.user
    messages = (*history, {"role": "user", "content": said})
    target = _thoughtful(ending.thought, ending.answer)
    return Conversation(ending.task, messages, target, tools, directive, ending.accept, ending.calls, think)


def _history(draw: Draw, turns: list[Exchange]) -> list[Message]:
    system = system_prompt(draw)
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    for turn in turns:
        messages.append({"role": "user", "content": turn.user})
        messages.append({"role": "assistant", "content": turn.reply})
    return messages


def _fillers(draw: Draw, probability: float, most: int) -> list[Exchange]:
    return [_short(draw) for _ in range(draw.number(1, most))] if draw.chance(probability) else []


def _short(draw: Draw) -> Exchange:
    return _PLAIN[draw.pick(_SHORT)](draw)


def _thoughtful(thought: str | None, reply: str) -> str:
    return reply if thought is None else f"<think>\n{thought}\n</think>\n\n{reply}"

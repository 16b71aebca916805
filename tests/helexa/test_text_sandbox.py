"""Chat templates of strangers: what they may reach, how long they may take, and how much they may make."""

import threading
from pathlib import Path
from time import process_time, thread_time
from typing import Any

import pytest
from checkpoints import TEMPLATE, make_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from helexa.text import ChatTokenizer, TemplateError, sandbox
from helexa.text.sandbox import SECONDS, compiled

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 0.05)


def load(directory: Path, template: str) -> ChatTokenizer:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(directory)
    return ChatTokenizer.load(directory)


def refusal(directory: Path, template: str, messages: Any = None, **options: Any) -> str:
    text = load(directory, template)
    with pytest.raises(TemplateError) as raised:
        text.render(messages or HELLO, template_kwargs=options)
    return str(raised.value)


LOOPS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(9) %}{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% if false %}x{% endif %}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{{ f(n - 1) if n else '' }}{{ f(n - 1) if n else '' }}{% endmacro %}{{ f(60) }}",
    "{% for a in range(99999) %}{% for m in messages * 9999 %}{% endfor %}{% endfor %}",
    "{% for a in [[]] recursive %}{% for b in range(99999) %}{{ loop.length }}{% endfor %}{{ loop([[]]) }}{% endfor %}",
    "{% for a in range(99999) %}{% set x = range(99999) | list | sort | reverse | list %}{% endfor %}",
    "{% for a in range(99999) %}{% set x = range(99999) | map('string') | select('equalto', 'x') | list %}{% endfor %}",
    "{% for a in range(99999) if range(9999) | list | length == 3 %}{% endfor %}",
]


@pytest.mark.parametrize("template", LOOPS, ids=lambda each: each[:60])
def test_a_template_that_loops_is_given_up(tmp_path: Path, template: str) -> None:
    began = thread_time()
    reason = refusal(tmp_path, "{{ messages[0].content }}{% if go %}" + template + "{% endif %}", go=True)
    assert thread_time() - began < 3
    assert reason == "The model's chat template cannot be used with these messages: it takes more than 0.05 s."


def test_a_model_whose_template_always_loops_still_loads(tmp_path: Path) -> None:
    text = load(tmp_path, LOOPS[0])
    assert not text.supports_tools
    assert text.encode("Hello")


DOUBLING = (
    "{{% set ns = namespace(x={}) %}}{{% for i in range(60) %}}{{% set ns.x = {} %}}{{% endfor %}}{{{{ ns.x {} }}}}"
)
BOMBS = [
    "{{ 'a' * 99999999999 }}",
    "{{ 99999999999 * 'a' }}",
    "{{ [1] * 99999999999 }}",
    "{{ messages * 99999999 }}",
    "{{ 'a' | center(99999999999) }}",
    "{{ 'a'.center(99999999999) }}",
    "{{ 'a'.ljust(99999999999) }}{{ 'a'.zfill(99999999999) }}",
    "{{ '%99999999999d' % 1 }}",
    "{{ '%099999999d' | format(1) }}",
    "{{ '{:99999999999}'.format(1) }}",
    "{{ '\t'.expandtabs(99999999999) }}",
    "{{ ('a' * 4000000).replace('a', 'b' * 4000000) }}",
    "{{ ('a' * 4000000) | replace('a', 'b' * 4000000) }}",
    "{{ (['a' * 4000000] * 4000000) | join }}",
    "{{ (['a' * 4000000] * 4000000) | join('x') }}",
    "{{ range(99999) | map('string') | map('replace', '1', 'x' * 4000000) | join }}",
    "{{ range(99999) | map('string') | map('replace', '1', 'x' * 4000000) | list | length }}",
    "{{ range(99999) | map('string') | map('replace', '1', 'x' * 4000000) | sort | first }}",
    "{{ ('x' * 4000000).join(['a'] * 4000000) }}",
    "{{ ('a' * 4000000).translate({97: 'b' * 4000000}) }}",
    "{{ ('a\n' * 2000000) | indent(99999) }}",
    "{{ ('a ' * 2000000) | wordwrap(1, wrapstring='x' * 2000000) }}",
    DOUBLING.format("'aaaaaaaa'", "ns.x + ns.x", ""),
    DOUBLING.format("'aaaaaaaa'", "ns.x ~ ns.x", ""),
    DOUBLING.format("['a']", "[ns.x, ns.x]", ""),
    DOUBLING.format("['a']", "[ns.x, ns.x]", "| tojson"),
    DOUBLING.format("['a']", "[ns.x, ns.x]", "| string"),
    DOUBLING.format("['a']", "{'a': ns.x, 'b': ns.x}", ""),
    "{% macro d(x) %}{{ x }}{{ x }}{% endmacro %}" + DOUBLING.format("'aaaaaaaa'", "d(ns.x)", ""),
    "{% for i in range(99) %}{{ 'a' * 4000000 }}{% endfor %}",
    "{% set x %}{% for i in range(99) %}{{ 'a' * 4000000 }}{% endfor %}{% endset %}",
    "{{ 99999999999 ** 99999999999 }}",
    DOUBLING.format("99999", "ns.x * ns.x", ""),
    "{{ ([[1] * 4000000] * 4000) | sum(start=[]) | length }}",
    "{{ strftime_now('%99999999999Y') }}",
    "{{ lipsum(99999999) }}",
]


@pytest.mark.parametrize("template", BOMBS, ids=lambda each: each[:70])
def test_a_template_that_makes_much_of_little_is_refused_before_it_has(
    tmp_path: Path, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 0.5)  # what is looked at here is room
    before = _peak_megabytes(reset=True)
    reason = refusal(tmp_path, "{{ messages[0].content }}{% if go %}" + template + "{% endif %}", go=True)
    assert reason.startswith(("The model's chat template cannot be used", "The model's chat template rejects"))
    assert _peak_megabytes() - before < 1500


def _peak_megabytes(*, reset: bool = False) -> int:
    """The most memory that this process has used since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ messages.append.__self__.__class__ }}",
    "{{ (messages | map(attribute='__class__') | list)[0] }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ ''['format']('{0.__class__}', messages) }}",
    "{{ messages.append({}) }}",
    "{{ messages[0].update({'role': 'system'}) }}",
    "{{ messages[0].pop('content') }}",
    "{% include '/etc/passwd' %}",
    "{% import '/etc/passwd' as x %}",
    "{% extends '/etc/passwd' %}",
    "{{ dict.__base__ }}{{ dict.mro() }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__globals__['jinja2'] }}",
    "{{ joiner.__init__.__builtins__ }}",
]


@pytest.mark.parametrize("template", ESCAPES)
def test_a_template_reaches_nothing_but_its_variables(tmp_path: Path, template: str) -> None:
    text = load(tmp_path, "{{ messages[0].content }}" + template)
    try:
        found = text.render(HELLO)
    except TemplateError:
        return
    assert found == "Hello"


INJECTIONS = ["{{ 7 * 7 }}", "{% for i in range(9) %}x{% endfor %}", "{{ ''.__class__ }}", "${7*7}", "{# gone #}", "{{"]


@pytest.mark.parametrize("words", INJECTIONS)
def test_what_clients_write_is_no_template(tmp_path: Path, words: str) -> None:
    text = load(tmp_path, TEMPLATE)
    tools = [{"type": "function", "function": {"name": "f", "description": words, "parameters": {}}}]
    messages = [{"role": "user", "content": words}]
    found = text.render(messages, tools=tools, template_kwargs={"extra": words})
    assert f"<|im_start|>user\n{words}<|im_end|>" in found


@pytest.mark.parametrize("option", ["chat_template", "tokenize", "conversation", "messages", "tools", "self"])
def test_what_clients_set_is_no_template(tmp_path: Path, option: str) -> None:
    text = load(tmp_path, TEMPLATE)
    with pytest.raises((TemplateError, TypeError), match=r"reserved|multiple values"):
        text.render(HELLO, template_kwargs={option: "{{ 7 * 7 }}"})


HONEST = """
{%- set ns = namespace(last=0, found=false) %}
{%- for m in messages[::-1] %}{% if not ns.found and m.role == 'user' %}{% set ns.last = loop.index0 %}
{%- set ns.found = true %}{% endif %}{% endfor %}
{%- macro show(m) %}{{ m.role | capitalize ~ ': ' ~ m.content | trim }}{% endmacro %}
{%- for m in messages %}{% if loop.first %}[{{ loop.length }}]{% endif %}{{ show(m) }}{{ '' if loop.last else '\n' }}
{%- if loop.previtem is defined and loop.changed(m.role) %}*{% endif %}{% endfor %}
{%- for key, value in {'b': 2, 'a': 1} | dictsort %}{{ key }}={{ value + 1 }};{% endfor %}
{%- for x in nothing %}{{ x }}{% else %}none{% endfor %}
{%- for n in range(9) if n % 2 %}{{ n }}{% if n > 4 %}{% break %}{% endif %}{% endfor %}
{%- for n in [1, [2, [3]]] recursive %}{{ loop(n) if n is iterable else n }}{% endfor %}
{{- '%s-%03d' % ('a', 7) }}{{ 'x' * 3 }}{{ [1] + [2] }}{{ 2 ** 10 }}{{ '{:>4}'.format('b') }}
{{- 'a,b'.split(',') | join('+') }}
{{- {'k': [1, none, true]} | tojson }}{{ 'é' | tojson }}{{ 'abc'.replace('b', 'BB') }}{{ 'l1\nl2' | indent(2) }}
{%- generation %}made{% endgeneration %}{{ strftime_now('%Y') | length }}{{ dict(a=1).a }}{{ '<b>' | e }}
"""


def test_an_honest_template_renders_what_transformers_makes_of_it(tmp_path: Path) -> None:
    from transformers.utils.chat_template_utils import _cached_compile_jinja_template

    messages = [{"role": role, "content": f" {role} says \u00fc "} for role in ("system", "user", "assistant", "user")]
    plain = _cached_compile_jinja_template(HONEST).render(messages=messages)
    assert "[4]" in plain
    assert load(tmp_path, HONEST).render(messages) == plain


@given(st.lists(st.text(max_size=20), min_size=1, max_size=8))
def test_every_conversation_renders_as_transformers_renders_it(contents: list[str]) -> None:
    from transformers.utils.chat_template_utils import _cached_compile_jinja_template

    messages = [{"role": "user", "content": content, "tool_calls": []} for content in contents]
    variables = {"messages": messages, "tools": None, "add_generation_prompt": True}
    assert compiled(TEMPLATE).render(**variables) == _cached_compile_jinja_template(TEMPLATE).render(**variables)


def test_a_long_conversation_takes_less_than_the_time_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = load(tmp_path, HONEST)
    messages = [{"role": "user" if n % 2 else "assistant", "content": "word " * 50} for n in range(10_000)]
    began = thread_time()
    monkeypatch.setattr(sandbox, "SECONDS", 10)
    text.render(messages)
    assert thread_time() - began < SECONDS


def test_one_thread_s_limit_is_not_another_s(tmp_path: Path) -> None:
    """What is rendered beside the event loop must not be ended by what is rendered on it."""
    text, found = load(tmp_path, TEMPLATE), []

    def render() -> None:
        found.append(text.render(HELLO))

    with sandbox.limited():
        sandbox._current.meter = sandbox._Meter(0, 0)
        thread = threading.Thread(target=render)
        thread.start()
        thread.join()
    assert len(found) == 1
    assert sandbox._current.meter is None


def test_the_bounds_cost_little(tmp_path: Path) -> None:
    text = load(tmp_path, TEMPLATE)
    text.render(HELLO)
    began = process_time()
    for _ in range(200):
        text.render(HELLO * 8)
    assert (process_time() - began) / 200 < 0.005


def test_transformers_offers_the_place_to_step_in() -> None:
    """A release that renames it would render without bounds, and nothing else would tell."""
    from transformers.utils import chat_template_utils

    sandbox.install()
    assert chat_template_utils._compile_jinja_template is compiled
    names = chat_template_utils.render_jinja_template.__code__.co_names
    assert "_compile_jinja_template" in names

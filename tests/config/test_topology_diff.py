"""What changes between two files, in the words an operator reads, and when it takes effect."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import HOMELAB, Changes, Topology, diff, load, parse
from config.diff import written

BASE = """
[cortex]
listen = "127.0.0.1:31313"
[[neurons]]
name = "beast"
listen = "0.0.0.0:13131"
[[models]]
id = "Qwen/Qwen3-8B"
priority = 1
[[models]]
id = "helexa/tiny"
[aliases]
tiny = "helexa/tiny"
[[providers]]
name = "cloud"
[[routes]]
pattern = "gpt-*"
providers = ["cloud"]
[[routes]]
pattern = "*"
providers = ["cloud"]
[[entitlements.keys]]
name = "ci"
key_env = "CI_KEY"
"""


def change(old: str, new: str, base: str = BASE) -> Changes:
    """What one edit of the file changes."""
    assert old in base
    return diff(parse(base), parse(base.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("", "", []),
        ('listen = "127.0.0.1:31313"\n', "", []),
        ("\n[cortex]", "\n[cortex.eviction]\nidle_ttl = '30m'\n[cortex]", []),
        (
            "priority = 1",
            'priority = 2\nquant = "int4"',
            [
                '~ models."Qwen/Qwen3-8B".quant: default → "int4"  (when it is next loaded)',
                '~ models."Qwen/Qwen3-8B".priority: 1 → 2',
            ],
        ),
        ('"127.0.0.1:31313"', '"127.0.0.1:1"', ['listen: default → "127.0.0.1:1"  (after a restart of helexa up)']),
        ('tiny = "helexa/tiny"', "", ['- aliases.tiny = "helexa/tiny"']),
        ('tiny = "helexa/tiny"', 'tiny = "Qwen/Qwen3-8B"', ['aliases.tiny: "helexa/tiny" → "Qwen/Qwen3-8B"']),
        ('[aliases]\ntiny = "helexa/tiny"', '[aliases]\nx = "helexa/tiny"\ntiny = "helexa/tiny"', ["+ aliases.x = "]),
        ('listen = "0.0.0.0:13131"', 'listen = "0.0.0.0:1"', ["(neuron beast restarts for it)"]),
        ('listen = "0.0.0.0:13131"', 'listen = "0.0.0.0:13131"\nmemory = "1GiB"', ['"1GiB"  (neuron beast restarts']),
        (
            'listen = "0.0.0.0:13131"',
            'listen = "0.0.0.0:13131"\nregistry = "http://models.lan"',
            ['"http://models.lan"  (neuron beast restarts'],
        ),
        ('listen = "0.0.0.0:13131"', 'listen = "0.0.0.0:13131"\npreload = ["helexa/tiny"]', ["beast next starts)"]),
        (
            'listen = "0.0.0.0:13131"',
            'listen = "0.0.0.0:1"\nendpoint = "http://b:1"',
            ["listen", 'endpoint: default → "http://b:1"  (neuron beast restarts for it)'],
        ),
        (
            'listen = "0.0.0.0:13131"',
            'listen = "0.0.0.0:13131"\nendpoint = "http://b:1"',
            ['~ neurons.beast.endpoint: default → "http://b:1"'],
        ),
        ('[[providers]]\nname = "cloud"', '[[providers]]\nname = "cloud"\nretries = 0', ["~ providers.cloud.retries"]),
        ('pattern = "gpt-*"', 'pattern = "gpt-4*"', ['- routes."gpt-*"', '+ routes."gpt-4*"']),
        ('key_env = "CI_KEY"', 'key_env = "OTHER"', ['entitlements.keys.ci.key_env: "CI_KEY" → "OTHER"']),
        ("[[entitlements.keys]]", "[entitlements]\nrequire_auth = true\n[[entitlements.keys]]", ["default → true"]),
        ("\n[cortex]", "\n[actors.poller]\ninterval = '1s'\n[cortex]", ["(after a restart of helexa up)"]),
    ],
)  # fmt: skip
def test_an_edit_is_told_in_one_line_per_key(old: str, new: str, lines: list[str]) -> None:
    found = change(old, new).lines()
    assert len(found) == len(lines)
    for expected in lines:
        assert any(expected in line for line in found), found


def test_entries_are_told_apart_by_name_and_not_by_place() -> None:
    first, second = '[[models]]\nid = "Qwen/Qwen3-8B"\npriority = 1\n', '[[models]]\nid = "helexa/tiny"\n'
    assert not change(first + second, second + first)


def test_routes_in_another_order_are_a_change() -> None:
    swapped = BASE.replace('"gpt-*"', "…").replace('"*"', '"gpt-*"').replace("…", '"*"')
    assert diff(parse(BASE), parse(swapped)).lines() == ['~ routes: ["gpt-*", "*"] → ["*", "gpt-*"]']


def test_a_second_route_of_one_pattern_is_an_entry_of_its_own() -> None:
    added = BASE + '[[routes]]\npattern = "*"\nproviders = ["cloud"]\ndeny = ["x"]\n'
    assert diff(parse(BASE), parse(added)).added("routes") == ("*#2",)
    assert diff(parse(added), parse(added.replace('"x"', '"y"'))).changed("routes") == ("*#2",)


def test_a_whole_entry_counts_as_added_or_removed_and_not_as_changed() -> None:
    changes = change('name = "beast"', 'name = "desk"')
    assert changes.added("neurons") == ("desk",)
    assert changes.removed("neurons") == ("beast",)
    assert changes.changed("neurons") == ()


def test_what_needs_a_restart_is_found_among_what_does_not() -> None:
    changes = change('"127.0.0.1:31313"', '"127.0.0.1:1"')
    assert [each.where for each in changes.after_restart] == ["cortex.listen"]
    assert change("priority = 1", "priority = 2").after_restart == ()


def test_a_certificate_is_changed_by_a_restart_and_moves_a_neuron() -> None:
    tls = '[cortex]\ntls = { certificate = "/c", key = "/k" }'
    assert [each.when for each in change("[cortex]", tls).entries] == ["restart", "restart"]
    moved = change(
        'name = "beast"', 'name = "beast"\ntls = { certificate = "/c", key = "/k" }\nendpoint = "https://b:1"'
    )
    assert {each.when for each in moved.entries} == {"neuron restart"}


def test_an_accounts_budget_changes_at_once_and_is_told_by_its_name() -> None:
    base = BASE + '[[entitlements.accounts]]\nname = "team"\nbudgets = [{ tokens = 1 }]\n'
    (found,) = change("tokens = 1", "tokens = 2", base).entries
    assert (found.where, found.when) == ("entitlements.accounts.team.budgets", "at once")


def test_the_hash_of_a_key_is_not_shown() -> None:
    one, two = ('key_hash = "sha256:' + digit * 64 + '"' for digit in "01")
    base = BASE.replace('key_env = "CI_KEY"', one)
    (line,) = change(one, two, base).lines()
    assert line == "~ entitlements.keys.ci.key_hash: (not shown) → (not shown)"


@pytest.mark.parametrize(
    ("value", "shown"), [("ü", '"ü"'), ("\x1b[2J", '"\\u001b[2J"'), (["a", 1], '["a", 1]'), (True, "true")]
)
def test_a_value_is_written_as_in_a_file_and_disturbs_no_terminal(value: object, shown: str) -> None:
    assert written(value) == shown


def test_a_nested_table_is_told_key_by_key() -> None:
    old = load(HOMELAB, env={})
    new = parse(HOMELAB.read_text().replace("output = 0.2", "output = 0.3").replace('"1h" }', '"2h" }'))
    assert [each.where for each in diff(old, new).entries] == [
        'models."Qwen/Qwen3-32B".cost.output',
        "entitlements.keys.ci.window.period",
    ]


TABLES = [part for part in HOMELAB.read_text().split("\n\n") if part.startswith("[") and "cortex" not in part]


@given(st.sets(st.sampled_from(["providers", "routes", "bench", "actors.poller", "actors.device_worker"])))
def test_going_back_is_the_same_changes_the_other_way_round(left_out: set[str]) -> None:
    whole = load(HOMELAB, env={})
    kept = [part for part in TABLES if not any(part.startswith((f"[{name}]", f"[[{name}]]")) for name in left_out)]
    head = HOMELAB.read_text().partition("[cortex.eviction]")[0]
    text = "\n\n".join([head, *(part for part in kept if "providers" not in left_out or "[[routes]]" not in part)])
    other: Topology = parse(text)
    there, back = diff(whole, other), diff(other, whole)
    opposite = {"added": "removed", "removed": "added", "changed": "changed"}
    assert {(opposite[each.kind], each.path) for each in there.entries} == {(it.kind, it.path) for it in back.entries}
    assert bool(there) == (whole != other)

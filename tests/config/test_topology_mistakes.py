"""Every mistake an operator can make in the file, and the exact sentence that answers it."""

import pytest

from config import TopologyError, parse

N = '[[neurons]]\nname = "n"\n'
M = '[[models]]\nid = "m"\n'
K = '[[entitlements.keys]]\nname = "k"\nkey_env = "K"\n'
R = '[[providers]]\nname = "p"\n[[routes]]\npattern = "*"\n'
SLUG = 'letters, digits and ._:@+- in parts joined by single slashes, such as "owner/model"'
NAME = "letters, digits, '.', '_' and '-', starting with a letter or digit, at most 64"
ADDRESS = 'a host and a port, such as "127.0.0.1:31313" or "[::1]:31313"'
DURATION = 'a length of time, in quotes, such as "500ms", "15m" or "1h30m"'
SIZE = 'a number and a unit, in quotes, such as "24GiB" or "1.5GB"'
URL = 'such as "http://beast.lan:13131"; no user, password, query or fragment'
ENVIRONMENT = "letters, digits and _, such as MY_KEY; the secret itself stays in that variable"
STATEMENT = 'a line is key = "value", a [table] or a comment after #'
ONCE = "declare each key and each table once"
HOSTS = "as soon as one entry names a host, cortex and every neuron have to"

SYNTAX = [
    (
        "a = b",
        '1: is not valid TOML: invalid value (strings need quotes: key = "text"; lists and tables end with a bracket)',
    ),
    ("\n\nhello", f"3: is not valid TOML: expected '=' after a key in a key/value pair ({STATEMENT})"),
    ("a = 1\na = 2", f"2: is not valid TOML: cannot overwrite a value ({ONCE})"),
    (
        "[x.y]\n[x.y]",
        f"2: is not valid TOML: cannot declare x.y twice ({ONCE}; the tables of a list are headed [[name]])",
    ),
    ("a = 'x", '1: is not valid TOML: expected "\'" (close the quotes)'),
    ('a = "x\nb = 1', "1: is not valid TOML: illegal character '\\n' (close the quotes on the line that opens them)"),
    ('a = "\\q"', "1: is not valid TOML: unescaped '\\' in a string (write a backslash as two, or use single quotes)"),
]

SHAPES = [
    ('[cortex]\nlisen = "x"', '2: cortex.lisen: is not a known key (did you mean "listen"?)'),
    ("[cortx]", '1: cortx: is not a known key (did you mean "cortex"?)'),
    (
        "zzz = 1",
        (
            "1: zzz: is not a known key"
            " (known here: cortex, neurons, models, aliases, providers, routes, entitlements, bench, actors)"
        ),
    ),
    (
        '"a b" = 1',
        (
            '1: "a b": is not a known key'
            " (known here: cortex, neurons, models, aliases, providers, routes, entitlements, bench, actors)"
        ),
    ),
    (M + "cost = { inptu = 1 }", '3: models.0.cost.inptu: is not a known key (did you mean "input"?)'),
    ("[cortex]\nhost = 8080", '2: cortex.host: 8080 is not a string (put it in quotes: "8080")'),
    ("[cortex]\nhost = true", '2: cortex.host: true is not a string (put it in quotes: "true")'),
    ('[cortex]\nhost = ["a"]', '2: cortex.host: a list is not a string (write "text")'),
    ("cortex = 5", "1: cortex: 5 is not a table (a table: { key = value })"),
    ("cortex = [5]", "1: cortex: a list is not a table (a table: { key = value })"),
    ("[neurons]\nname = 'a'", "1: neurons: a table is not a list (in brackets: […])"),
    ("neurons = [5]", "1: neurons.0: 5 is not a table (a table: { key = value })"),
    ("aliases = 'x'", '1: aliases: "x" is not a table (a table: { key = value })'),
    (N + 'devices = "cuda:0"', '3: neurons.0.devices: "cuda:0" is not a list (in brackets: ["cuda:0"])'),
    (N + "devices = [\n'cpu',\n0]", '5: neurons.0.devices.1: 0 is not a string (put it in quotes: "0")'),
    (
        '[bench]\nsamples_per_build = "5"',
        '2: bench.samples_per_build: "5" is not a whole number (leave out the quotes: 5)',
    ),
    ("[bench]\nsamples_per_build = true", "2: bench.samples_per_build: true is not a whole number (such as 5)"),
    ("[bench]\nsamples_per_build = 5.0", "2: bench.samples_per_build: 5.0 is not a whole number (such as 5)"),
    (M + "cost = { input = '1' }", '3: models.0.cost.input: "1" is not a number (leave out the quotes: 1)'),
    (M + "cost = { input = true }", "3: models.0.cost.input: true is not a number (such as 0.5)"),
    (
        "[entitlements]\nrequire_auth = 1",
        "2: entitlements.require_auth: 1 is not true or false (write true or false, without quotes)",
    ),
    (
        "[entitlements]\nrequire_auth = 'yes'",
        '2: entitlements.require_auth: "yes" is not true or false (write true or false, without quotes)',
    ),
    ("[bench]\ninterval = 30", f"2: bench.interval: 30 is not a duration ({DURATION})"),
    ("[bench]\ninterval = 2024-01-01", f"2: bench.interval: 2024-01-01 is not a duration ({DURATION})"),
    ("[[models]]\n", '1: models.0.id: is missing (add id = "helexa/tiny")'),
    ("[[neurons]]\nhost = 'a'", '1: neurons.0.name: is missing (add name = "beast")'),
    ("[[routes]]\nproviders = []", '1: routes.0.pattern: is missing (add pattern = "claude-*")'),
    ("[[routes]]\npattern = '*'", "1: routes.0.providers: is missing (add providers = …)"),
]

VALUES = [
    ("[cortex]\nlisten = '31313'", f'2: cortex.listen: "31313" is not an address ({ADDRESS})'),
    ("[cortex]\nlisten = 31313", f"2: cortex.listen: 31313 is not an address ({ADDRESS})"),
    ("[cortex]\nlisten = '300.0.0.1:1'", f'2: cortex.listen: "300.0.0.1" is not an IP address ({ADDRESS})'),
    ("[cortex]\nlisten = '127.0.0.1:70000'", "2: cortex.listen: 70000 is not a port (a port from 0 to 65535)"),
    (
        N + "listen = '127.0.0.1:0'",
        (
            "3: neurons.0.listen: cannot leave the port to the system"
            " (a port from 1 to 65535, for others have to know it beforehand)"
        ),
    ),
    (N + "endpoint = 'beast.lan:13131'", f"3: neurons.0.endpoint: is not an http or https URL of a server ({URL})"),
    (
        N + "devices = ['gpu0']",
        (
            '3: neurons.0.devices.0: "gpu0" is not a device ("cpu", or "cuda:" and a number, such as "cuda:0"; "cpu:0" '
            "is a further worker on the CPU)"
        ),
    ),
    (N + "devices = []", "3: neurons.0.devices: is empty (name at least one, or leave the key out)"),
    (N + "devices = ['cpu', 'cpu']", '3: neurons.0.devices.1: "cpu" is listed twice (list it once)'),
    ("[[neurons]]\nname = '../n'", f'2: neurons.0.name: "../n" is not a name ({NAME})'),
    ("[[models]]\nid = '../../etc'", f'2: models.0.id: "../../etc" is not an id ({SLUG})'),
    ("[[models]]\nid = 'a//b'", f'2: models.0.id: "a//b" is not an id ({SLUG})'),
    ('[[models]]\nid = "a\\u001b[2Jb"', f'2: models.0.id: "a\\u001b[2Jb" is not an id ({SLUG})'),
    ("[[models]]\nid = ''", f'2: models.0.id: "" is not an id ({SLUG})'),
    (
        M + "source = 'path:models'",
        (
            '3: models.0.source: "path:models" has no absolute path '
            '("path:" and an absolute path, such as "path:/srv/models/mine")'
        ),
    ),
    (
        M + "quant = 'int3'",
        '3: models.0.quant: "int3" is not one of the choices (one of "bf16", "int8", "int4", "fp8")',
    ),
    (
        M + "capabilities = ['tools']",
        (
            '3: models.0.capabilities.0: "tools" is not one of the choices'
            ' (one of "tool_call", "reasoning", "vision", "embeddings", "transcription", "speech", "images")'
        ),
    ),
    (M + "min_device_memory = '24GB!'", f'3: models.0.min_device_memory: "24GB!" is not a size ({SIZE})'),
    (M + "min_device_memory = 24", f"3: models.0.min_device_memory: 24 is not a size ({SIZE})"),
    (M + "min_device_memory = '0B'", '3: models.0.min_device_memory: must be more than zero (such as "24GiB")'),
    (M + "tensor_parallel = 0", "3: models.0.tensor_parallel: 0 is out of range (from 1 to 1024)"),
    (
        M + f"priority = 0x{'f' * 9000}",
        "3: models.0.priority: so large a number is out of range (from -1000000 to 1000000)",
    ),
    (
        M + "cost = { output = -1.0 }",
        "3: models.0.cost.output: -1.0 is not a price (0 or more US dollars per million tokens)",
    ),
    (
        M + "cost = { output = nan }",
        "3: models.0.cost.output: nan is not a price (0 or more US dollars per million tokens)",
    ),
    (M + "idle_ttl = '30 min'", f'3: models.0.idle_ttl: "30 min" is not a duration ({DURATION})'),
    (
        "[actors.poller]\ninterval = 'never'",
        '2: actors.poller.interval: cannot be "never" (a length of time, such as "2s" or "10m")',
    ),
    ("[actors.poller]\ninterval = '0s'", '2: actors.poller.interval: must be more than zero (such as "2s")'),
    ("[actors.tp_leader]\nrestart.max = -1", "2: actors.tp_leader.restart.max: -1 is out of range (from 0 to 1000000)"),
    (
        "[cortex]\ndatabase = 'mysql://x'",
        ('2: cortex.database: is not a database URL ("sqlite:///" and a path, or "postgresql://" and a server)'),
    ),
    (
        "[cortex]\nsecret_env = 'my-secret!'",
        f"2: cortex.secret_env: is not the name of an environment variable ({ENVIRONMENT})",
    ),
    (
        "[cortex.eviction]\nstrategy = 'lfu'",
        '2: cortex.eviction.strategy: "lfu" is not one of the choices (one of "lru", "priority")',
    ),
    (
        "[[providers]]\nname = 'p'\nbase_url = 'https://me:pw@x'",
        f"3: providers.0.base_url: is not an http or https URL of a server ({URL})",
    ),
    (
        "[[providers]]\nname = 'p'\napi_key_env = 'sk-1'",
        f"3: providers.0.api_key_env: is not the name of an environment variable ({ENVIRONMENT})",
    ),
    (R + "providers = []", "5: routes.0.providers: is empty (name at least one, or leave the key out)"),
    (
        R + "providers = ['p']\ndeny = ['']",
        '6: routes.0.deny.0: "" is not a pattern (a model name with * and ? as wildcards, such as "claude-*")',
    ),
    (
        K + "scopes = ['root']",
        (
            '4: entitlements.keys.0.scopes.0: "root" is not one of the choices (one of "inference", "embeddings", '
            '"audio", "images", "models:read", "fleet:read", "fleet:admin")'
        ),
    ),
    (K + "hard_cap = -5", "4: entitlements.keys.0.hard_cap: -5 is out of range (from 0 to 9223372036854775807)"),
    (
        K + "budgets = [{ requests = 5, tokens = 2 }]",
        (
            "4: entitlements.keys.0.budgets.0.requests: stands beside tokens"
            " (one budget for each, as each has a window of its own)"
        ),
    ),
    (
        K + "budgets = [{ per = '1d' }]",
        (
            "4: entitlements.keys.0.budgets.0: limits nothing"
            ' (such as { tokens = 1_000_000, per = "1d" }; or requests, or usd)'
        ),
    ),
    (
        K + "budgets = [{ usd = nan }]",
        "4: entitlements.keys.0.budgets.0.usd: nan is not an amount (from 0 to 1000000 US dollars)",
    ),
    (
        K + "budgets = [{ tokens = 5, per = '500ms' }]",
        '4: entitlements.keys.0.budgets.0.per: is out of range (from "1s" to "366d")',
    ),
    (
        K + "window = { kind = 'rolling', period = 'never' }",
        '4: entitlements.keys.0.window.period: is out of range (from "1s" to "366d")',
    ),
    (K + "weight = 0", "4: entitlements.keys.0.weight: 0 is out of range (from 1 to 1000)"),
    (K + "max_in_flight = 0", "4: entitlements.keys.0.max_in_flight: 0 is out of range (from 1 to 1000000)"),
    (
        "[[entitlements.accounts]]\nname = 'a'\n[[entitlements.accounts]]\nname = 'a'",
        '4: entitlements.accounts.1.name: "a" is already the name of entry 0 (give each entry its own name)',
    ),
    ("[cortex]\ntls = { certificate = '/a' }", "2: cortex.tls.key: is missing (add key = …)"),
    (
        "[cortex]\nca = ''",
        '2: cortex.ca: "" is not a path (such as "/etc/helexa/server.pem")',
    ),
    (
        "[cortex]\ndatabase_away = 'open'",
        '2: cortex.database_away: "open" is not one of the choices (one of "refuse", "serve")',
    ),
    (
        K + "key_hash = 'sha256:" + "0" * 64 + "'",
        "4: entitlements.keys.0.key_hash: stands beside key_env (keep one of the two)",
    ),
    (
        "[[entitlements.keys]]\nname = 'k'",
        (
            "1: entitlements.keys.0.key_env: is missing, and so is key_hash"
            ' (add key_env = "MY_KEY" or key_hash = "sha256:…")'
        ),
    ),
    (
        "[[entitlements.keys]]\nname = 'k'\nkey_hash = 'sk-live'",
        (
            "3: entitlements.keys.0.key_hash: is not the hash of a key"
            ' ("sha256:" and 64 lowercase hexadecimal digits; never the key itself)'
        ),
    ),
    (
        K + "window.kind = 'rolling'",
        '4: entitlements.keys.0.window.period: is missing (a rolling window needs one, such as period = "1h")',
    ),
    (
        K + "window.period = '1h'",
        '4: entitlements.keys.0.window.period: means nothing for a balance (add kind = "rolling" or leave it out)',
    ),
]

INTERCONNECT = 'the one address of this host that the others reach it by, such as "10.0.0.5:13132"'
NEXT = '[[neurons]]\nname = "o"\nlisten = "127.0.0.1:1"\n'
INTERCONNECTS = [
    (
        N + "interconnect = '127.0.0.2:0'",
        (
            "3: neurons.0.interconnect: cannot leave the port to the system"
            " (a port from 1 to 65535, for others have to know it beforehand)"
        ),
    ),
    (
        N + "interconnect = '0.0.0.0:1'",
        f'3: neurons.0.interconnect: "0.0.0.0:1" stands for every interface of the host ({INTERCONNECT})',
    ),
    (
        N + "interconnect = '[::]:1'",
        f'3: neurons.0.interconnect: "[::]:1" stands for every interface of the host ({INTERCONNECT})',
    ),
    (
        N + "interconnect = 'beast.lan:1'",
        f'3: neurons.0.interconnect: "beast.lan:1" is not an IP address ({INTERCONNECT})',
    ),
    (
        N + "listen = '0.0.0.0:5'\ninterconnect = '10.0.0.1:5'",
        (
            '4: neurons.0.interconnect: "10.0.0.1:5" is taken by neurons.0.listen on the same host'
            " (give each its own port)"
        ),
    ),
    (
        N + "interconnect = '10.0.0.1:5'\n" + NEXT + "interconnect = '10.0.0.1:5'",
        (
            '7: neurons.1.interconnect: "10.0.0.1:5" is taken by neurons.0.interconnect on the same host'
            " (give each its own port)"
        ),
    ),
    (
        N + "interconnect = '10.0.0.1:5'\n" + NEXT + "interconnect = '[fd00::1]:5'",
        (
            '7: neurons.1.interconnect: "[fd00::1]:5" cannot reach "10.0.0.1:5"'
            " (give all of them IPv4 addresses, or all of them IPv6)"
        ),
    ),
    (
        (
            f"[cortex]\nhost = 'a'\n{N}host = 'a'\ninterconnect = '127.0.0.1:5'\n"
            f"{NEXT}host = 'b'\nendpoint = 'http://b:1'\ninterconnect = '10.0.0.2:5'"
        ),
        f'6: neurons.0.interconnect: "127.0.0.1:5" does not reach "a" from other hosts ({INTERCONNECT})',
    ),
]

REFERENCES = [
    (
        N + N + "listen = '127.0.0.1:1'",
        '4: neurons.1.name: "n" is already the name of entry 0 (give each entry its own name)',
    ),
    (M + M, '4: models.1.id: "m" is already the id of entry 0 (give each entry its own id)'),
    (
        K + "[[entitlements.keys]]\nname = 'j'\nkey_env = 'K'",
        '6: entitlements.keys.1.key_env: "K" is already the key_env of entry 0 (give each entry its own key_env)',
    ),
    (M + "[aliases]\nx = 'n'", '4: aliases.x: there is no model "n" in the catalogue (known here: m)'),
    (
        "[aliases]\nx = 'n'",
        '2: aliases.x: there is no model "n" in the catalogue (declare it as one of the [[models]])',
    ),
    (
        M + "[aliases]\nx = 'm'\ny = 'x'",
        '5: aliases.y: there is no model "x" in the catalogue (it is an alias; name its model, "m")',
    ),
    (M + "[aliases]\nm = 'm'", "4: aliases.m: is already the id of a model (choose another name for the alias)"),
    (M + "[aliases]\n'../m' = 'm'", f'4: aliases."../m": is not a name for an alias ({SLUG})'),
    (M + "[aliases]\nx = 1", '4: aliases.x: 1 is not a string (put it in quotes: "1")'),
    (
        N + "preload = ['helexa/tiny']",
        (
            '3: neurons.0.preload.0: there is no model "helexa/tiny" in the catalogue'
            " (declare it as one of the [[models]])"
        ),
    ),
    (
        "[[models]]\nid = 'Qwen/Qwen3-8B'\n" + N + "preload = ['Qwen/Qwen3-8b']",
        '5: neurons.0.preload.0: there is no model "Qwen/Qwen3-8b" in the catalogue (did you mean "Qwen/Qwen3-8B"?)',
    ),
    (
        M + "pinned_on = ['o']\n" + N.replace('"n"', '"o"') + N + "listen = '127.0.0.1:1'\npreload = ['m']",
        '9: neurons.1.preload.0: "m" is pinned on "o" only (preload it there, or add "n" to its pinned_on)',
    ),
    (
        M + "pinned_on = ['beast']",
        '3: models.0.pinned_on.0: there is no neuron "beast" (declare it as one of the [[neurons]])',
    ),
    (R + "providers = ['q']", '5: routes.0.providers.0: there is no provider "q" (known here: p)'),
    (N + "host = 'a'", f' cortex.host: is missing while others name hosts, such as "a" ({HOSTS})'),
    (N + "[cortex]\nhost = 'a'", f'1: neurons.0.host: is missing while others name hosts, such as "a" ({HOSTS})'),
    (
        N + "host = 'b'\n[cortex]\nhost = 'a'",
        (
            '1: neurons.0.endpoint: "http://127.0.0.1:13131" does not reach "b" from other hosts'
            ' (listen on an address of the network and name the URL others use, such as "http://b:13131")'
        ),
    ),
    (
        "[cortex]\nlisten = '127.0.0.1:31314'",
        (
            '1: cortex.metrics_listen: "127.0.0.1:31314" is taken by cortex.listen on the same host'
            " (give each its own port)"
        ),
    ),
    (
        N + "listen = '0.0.0.0:31313'",
        '3: neurons.0.listen: "0.0.0.0:31313" is taken by cortex.listen on the same host (give each its own port)',
    ),
    (
        N + "[[neurons]]\nname = 'o'",
        '3: neurons.1.listen: "127.0.0.1:13131" is taken by neurons.0.listen on the same host (give each its own port)',
    ),
    (
        N + "devices = ['cuda:0']\n[[neurons]]\nname = 'o'\nlisten = '127.0.0.1:1'\ndevices = ['cuda:0']",
        '7: neurons.1.devices.0: "cuda:0" already belongs to "n" on the same host (give each device to one neuron)',
    ),
]


@pytest.mark.parametrize(("text", "answer"), [*SYNTAX, *SHAPES, *VALUES, *INTERCONNECTS, *REFERENCES])
def test_a_mistake_gets_one_sentence(text: str, answer: str) -> None:
    with pytest.raises(TopologyError) as caught:
        parse(text, name="f")
    assert str(caught.value) == f"f:{answer}"


def test_ranks_of_one_host_may_meet_on_loopback() -> None:
    text = f"{N}interconnect = '127.0.0.2:5'\n{NEXT}interconnect = '127.0.0.3:5'"
    assert [str(each.interconnect) for each in parse(text).neurons] == ["127.0.0.2:5", "127.0.0.3:5"]


def test_an_interconnect_alone_does_not_ask_clients_for_keys() -> None:
    """No client connects to it: the ranks know each other by a secret of their own."""
    assert not parse(N + "interconnect = '10.0.0.1:5'").auth_required

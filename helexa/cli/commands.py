"""What each command does. Returns its exit code; heavy imports happen inside, so that ``--help`` is quick."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from config import DEMO, Neuron, Topology, TopologyError, load
from helexa.cli.output import DONE, FAILED, WRONG, fail, leaves, say


def _load(path: Path) -> Topology | None:
    """The topology, or ``None`` after having shown every problem."""
    try:
        return load(path)
    except TopologyError as error:
        say(str(error))
        count = len(error.problems)
        say(f"helexa: {count} problem{'s' * (count != 1)} in {path}; nothing was started.")
    return None


def up(file: Path | None, host: str | None) -> int:
    """Run this host's part of a fleet."""
    path = file or DEMO
    topology = _load(path)
    if topology is None:
        return WRONG
    name = host or socket.gethostname()
    from helexa.up.plan import Plan

    plan = Plan.of(topology, path, name)
    if not plan.cortex and not plan.neurons:
        known = ", ".join(topology.hosts)
        return fail(
            f"{path} has nothing for host '{name}'; it names {known}. Say which one this is with --host.", WRONG
        )
    if file is None:
        say("starting the bundled demo fleet ('helexa init' writes a topology of your own)")
    return _run_up(plan)


def _run_up(plan: object) -> int:
    from functools import partial

    from helexa.up.plan import Plan
    from helexa.up.root import run_root

    assert isinstance(plan, Plan)
    return _run(partial(run_root, plan, say))


def _run(main: Callable[[], object]) -> int:
    """Run a trio main; every failure that an operator can cause is one sentence."""
    import trio

    from helexa.faults import OperatorError
    from helexa.logs import configure

    configure()
    code = DONE
    try:
        trio.run(main)  # type: ignore[arg-type]  # an async function, behind a partial
    except* OperatorError as group:
        for error in leaves(group):
            code = fail(str(error))
    except* KeyboardInterrupt:
        code = FAILED
    return code


def neuron(file: Path, name: str, ready_fd: int | None) -> int:
    """Run one neuron."""
    from helexa import lifeline

    if ready_fd is not None:  # started by `up`, which holds the other end of stdin
        lifeline.watch(lambda: os.kill(os.getpid(), signal.SIGTERM), grace=6.0)
    from helexa.text import forgo_torch

    forgo_torch()
    topology = _load(file)
    if topology is None:
        return WRONG
    entry = topology.neuron(name)
    if entry is None:
        known = ", ".join(each.name for each in topology.neurons) or "none"
        return fail(f"{file} has no neuron '{name}'; it has {known}.", WRONG)
    return _run_neuron(topology, entry, ready_fd)


def _run_neuron(topology: Topology, entry: Neuron, ready_fd: int | None) -> int:
    from functools import partial

    from helexa.up.neuron import run_neuron

    return _run(partial(run_neuron, topology, entry, ready_fd))


def bench_serve(file: Path | None, host: str | None = None) -> int:
    """Run the benchmark loop of a fleet.

    Args:
        file: its topology; ``None``: the demo fleet's.
        host: which host of the topology this is; ``None``: any, for neurons are reached by their endpoints.
    """
    ready = _parents_ready()
    topology = _load(file or DEMO)
    if topology is None:
        return WRONG
    if host is not None and not topology.cortex_on(host):
        return fail(f"the benchmark loop runs on cortex's host, '{topology.cortex.host}', and not on '{host}'.", WRONG)
    from functools import partial

    from helexa.up.bench import run_bench

    return _run(partial(run_bench, topology, ready))


def _parents_ready() -> Callable[[], None]:
    """Tells whoever started this that it serves: `up`, which holds the other end of stdin, or else the operator."""
    from functools import partial

    from actors.bench_process import READY_FD

    given = os.environ.pop(READY_FD, "")
    if not given.isdecimal():
        return lambda: say("measuring whatever nobody uses; Ctrl-C ends it")
    from helexa import lifeline

    lifeline.watch(lambda: os.kill(os.getpid(), signal.SIGTERM), grace=6.0)
    return partial(_say_ready, int(given))


def _say_ready(fd: int) -> None:
    os.write(fd, b"\n")
    os.close(fd)


def check(file: Path) -> int:
    """Check a topology file."""
    topology = _load(file)
    if topology is None:
        return WRONG
    counts = f"{len(topology.neurons)} neuron(s), {len(topology.models)} model(s), {len(topology.aliases)} alias(es)"
    print(f"{file} is valid: {counts}.")  # noqa: T201 - the result
    return DONE


def chat(model: str | None, url: str, key: str | None) -> int:
    """Talk to a model."""
    from tui.chat import Conversation, converse, pick_model
    from tui.client import FleetClient, FleetError

    try:
        with FleetClient(url, key) as client:
            conversation = Conversation(client, model or pick_model(client), _write)
            interactive = sys.stdin.isatty()
            if interactive:
                _enable_line_editing()
                say(f"Talking to {conversation.model}. /help lists commands, Ctrl-D leaves.")
            converse(conversation, lambda: input("\n> " if interactive else ""))
    except FleetError as error:
        return fail(str(error))
    return DONE


def _enable_line_editing() -> None:
    with suppress(ImportError):  # not every Python has it
        import readline  # noqa: F401 - importing it is what gives input() its editing keys


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def init(file: Path, *, force: bool) -> int:
    """Write a topology for this host."""
    from helexa.cli.scaffold import scaffold
    from helexa.neuron.discovery import discover

    if file.exists() and not force:
        return fail(f"{file} is there already; --force overwrites it.")
    try:
        file.write_text(scaffold(discover().discovery), encoding="utf-8")
    except OSError as error:
        return fail(f"cannot write {file}: {error.strerror or error}")
    say(f"wrote {file}; look through it, then: helexa up {file}")
    return DONE

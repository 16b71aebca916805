# The project's commands. `just` itself comes with the dev extra: .venv/bin/just

python := ".venv/bin/python"
bin := ".venv/bin"

# list the commands
default:
    @{{ bin }}/just --list

# make the virtual environment and install everything a developer needs
sync:
    test -d .venv || python3 -m venv .venv
    {{ bin }}/pip install --quiet --editable '.[dev]'

# run the bundled demo fleet
up *arguments:
    {{ bin }}/helexa up {{ arguments }}

# lint, and check formatting
lint:
    {{ bin }}/ruff check
    {{ bin }}/ruff format --check

# rewrite what lint can mend
fix:
    {{ bin }}/ruff check --fix
    {{ bin }}/ruff format

# check types
type:
    {{ bin }}/mypy

# check that dependencies run one way
contracts:
    {{ bin }}/lint-imports --no-logo

# run the tests, on two cores; a file's tests share its fleet, and files that take long come first
test *arguments:
    {{ bin }}/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder {{ arguments }}

# everything a change has to pass
check: lint type contracts test

# train the bundled model anew (about half an hour on two cores)
train-tiny *arguments:
    {{ python }} -m helexa.tiny.train {{ arguments }}

# tokens per second of the engine beside transformers and llama.cpp, in one run
bench-engine *arguments:
    {{ python }} benchmarks/engine.py {{ arguments }}

# memory and tokens per second of the engine by the precision of its weights
bench-quant *arguments:
    {{ python }} benchmarks/quant.py {{ arguments }}

# tokens per second through HTTP beside the engine alone
bench-engine-http *arguments:
    {{ python }} benchmarks/engine_http.py {{ arguments }}

# What models are said to need, beside what processes take for them; e.g. `just bench-footprint --formats bf16 --ranks 1`
bench-footprint *arguments:
    PYTHONPATH=tests/support {{ python }} benchmarks/footprint.py {{ arguments }}

# Loading a model beside a plain read of its files; e.g. `just bench-loading --rounds 3`
bench-loading *arguments:
    {{ python }} benchmarks/loading.py {{ arguments }}

# seconds from a killed engine worker to the first token of the next request
bench-restart *arguments:
    {{ python }} benchmarks/restart.py {{ arguments }}

# tokens per second of a model in one process, and spread over two
bench-parallel *arguments:
    {{ python }} benchmarks/parallel.py {{ arguments }}

# requests per second of the gateway beside a bare server, in one run
bench-gateway *arguments:
    {{ python }} benchmarks/gateway.py {{ arguments }}

# what keys and budgets cost the gateway, in one run
bench-budgets *arguments:
    {{ python }} benchmarks/gateway_ledger.py {{ arguments }}

# what the ledger costs by itself, and its books after a crowd
bench-ledger *arguments:
    {{ python }} benchmarks/ledger.py {{ arguments }}

# microseconds of a routing decision in a fleet of 200 neurons and 1,000 models
bench-routing *arguments:
    {{ python }} benchmarks/routing.py {{ arguments }}

# how truly the measuring client tells when chunks came, beside other clients
bench-client *arguments:
    {{ python }} benchmarks/bench_client.py {{ arguments }}

# how soon the console opens, how fast it draws a key, and what it costs; e.g. `just bench-console --seconds 30`
bench-console *arguments:
    {{ python }} benchmarks/console.py {{ arguments }}

# take the README's pictures of the console anew
tour:
    {{ python }} docs/tour/take.py

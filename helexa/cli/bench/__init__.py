"""The commands of ``helexa bench``: what is measured, and what is read of what was."""

from helexa.cli.bench.app import bench_app

__all__ = ["bench_app"]

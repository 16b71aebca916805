"""Writes the model card from what training and evaluation measured."""

import json
from pathlib import Path
from string import Template
from typing import Any

from helexa.tiny.corpus.facts import CAPITAL_OF

_TEXT = Path(__file__).parent / "card.md"


def write_card(folder: Path, table: str) -> None:
    """Write ``MODEL_CARD.md`` into a checkpoint, with its accuracy table."""
    text = Template(_TEXT.read_text(encoding="utf-8")).substitute(_facts(folder), table=table)
    (folder / "MODEL_CARD.md").write_text(text, encoding="utf-8")


def _facts(folder: Path) -> dict[str, str]:
    config, stages = _json(folder / "config.json"), _json(folder / "training.json")
    return {
        "parameters": f"{stages[0]['parameters'] / 1e6:.1f} million",
        "layers": str(config["num_hidden_layers"]),
        "hidden": str(config["hidden_size"]),
        "vocabulary": f"{config['vocab_size']:,}",
        "context": f"{config['max_position_embeddings']:,}",
        "size": f"{(folder / 'model.safetensors').stat().st_size / 2**20:.1f} MiB",
        "countries": str(len(CAPITAL_OF)),
        "steps": " + ".join(f"{stage['steps']:,}" for stage in stages),
        "tokens": f"{sum(stage['tokens'] for stage in stages) / 1e6:.1f} million",
        "minutes": f"{sum(stage['seconds'] for stage in stages) / 60:.0f}",
        "loss": f"{stages[-1]['loss']:.4f}",
    }


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))

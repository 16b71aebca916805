"""The bundled model: where its checkpoint lies and what it is called."""

from pathlib import Path

MODEL_ID = "helexa/tiny"
CHECKPOINT = Path(__file__).parent / "checkpoint"

__all__ = ["CHECKPOINT", "MODEL_ID"]

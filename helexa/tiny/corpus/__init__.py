"""The synthetic conversations that the bundled model is trained and measured on."""

from helexa.tiny.corpus.draw import Draw, Phrases
from helexa.tiny.corpus.drills import drill
from helexa.tiny.corpus.mix import DRILL, POLISH_SHARES, SHARES, conversation, document, draw_task, task_names
from helexa.tiny.corpus.shapes import Conversation, Exchange, Message, Tool

__all__ = [
    "DRILL",
    "POLISH_SHARES",
    "SHARES",
    "Conversation",
    "Draw",
    "Exchange",
    "Message",
    "Phrases",
    "Tool",
    "conversation",
    "document",
    "draw_task",
    "drill",
    "task_names",
]

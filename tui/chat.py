"""A conversation in the terminal."""

from collections.abc import Callable
from typing import Any

from attrs import define, field

from tui.client import FleetClient, FleetError

Read = Callable[[], str]
Write = Callable[[str], None]

HELP = """  /model NAME   talk to another model      /models   list them
  /system TEXT  set the system prompt      /clear    forget the conversation
  /help         this                       /quit     leave (or Ctrl-D)
"""


@define
class Conversation:
    """A conversation with one model: what was said, and one turn after the other.

    Attributes:
        client: the fleet.
        model: who is talked to.
        write: shows text as it comes, without a line end of its own.
        messages: everything said so far.
    """

    client: FleetClient
    model: str
    write: Write
    messages: list[dict[str, Any]] = field(factory=list)

    def say(self, text: str) -> None:
        """Say something and show the answer as it streams in. A failed turn leaves no trace in the conversation."""
        asked = [*self.messages, {"role": "user", "content": text}]
        answer = ""
        thinking = False
        for delta in self.client.chat(self.model, asked):
            if reasoning := delta.get("reasoning_content"):
                self.write(reasoning if thinking else f"(thinking) {reasoning}")
                thinking = True
            if content := delta.get("content"):
                self.write(f"\n\n{content}" if thinking else content)
                thinking = False
                answer += content
        self.write("\n")
        self.messages = [*asked, {"role": "assistant", "content": answer}]

    def command(self, line: str) -> bool:
        """Act on a line that starts with ``/``; whether the conversation goes on."""
        name, _, rest = line[1:].partition(" ")
        match name:
            case "quit" | "exit" | "q":
                return False
            case "clear":
                self.messages = []
            case "model" if rest:
                self.model = rest.strip()
            case "models":
                self.write("".join(f"  {entry['id']}  {entry.get('status', '')}\n" for entry in self.client.models()))
            case "system":
                rest_of_it = [message for message in self.messages if message["role"] != "system"]
                self.messages = [{"role": "system", "content": rest}, *rest_of_it] if rest else rest_of_it
            case _:
                self.write(HELP)
        return True


def pick_model(client: FleetClient) -> str:
    """The first loaded model.

    Raises:
        FleetError: none is loaded.
    """
    for entry in client.models():
        if entry.get("loaded"):  # another server that speaks OpenAI's protocol does not say
            return str(entry["id"])
    raise FleetError("no model is loaded; 'helexa status' shows what the fleet is doing.")


def converse(conversation: Conversation, read: Read) -> None:
    """Turn after turn until the input ends. An error ends a turn; Ctrl-C an answer, and at the prompt all of it."""
    while True:
        try:
            line = read().strip()
        except (EOFError, KeyboardInterrupt):
            conversation.write("\n")
            return
        try:
            if line.startswith("/"):
                if not conversation.command(line):
                    return
            elif line:
                conversation.say(line)
        except FleetError as error:
            conversation.write(f"\n! {error}\n")
        except KeyboardInterrupt:
            conversation.write("\n(stopped)\n")

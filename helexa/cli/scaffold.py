"""A first topology for a host, from what was discovered on it. Pure: the file's text."""

from helexa.wire.fleet import Discovery

_GIB_MB = 1024


def scaffold(found: Discovery) -> str:
    """A commented topology that works as it stands: the bundled model on this host's devices."""
    return _TEMPLATE.format(devices=_devices(found), names=_names(found))


def _devices(found: Discovery) -> str:
    lines = [
        f"{device.name}  {device.kind}, {device.memory_total_mb / _GIB_MB:.0f} GiB"
        + (f", compute capability {device.compute_capability}" if device.compute_capability else "")
        for device in found.devices
    ]
    if found.unavailable_reason:
        lines.append(f"({found.unavailable_reason})")
    return "\n".join(f"#   {_one_line(line)}" for line in lines)


def _one_line(text: str) -> str:
    """What a driver said, as far as it can stand in a comment: a line end would begin a key, and be an error."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _names(found: Discovery) -> str:
    return ", ".join(f'"{device.name}"' for device in found.devices)


_TEMPLATE = """\
# A helexa fleet. Check it with 'helexa check', run it with 'helexa up' and this file's name.
#
# Found on this host:
{devices}

[cortex]                             # the gateway: one endpoint for everything below
listen = "127.0.0.1:31313"           # "0.0.0.0:31313" for other machines; it then asks for API keys

[[neurons]]                          # one per host: the daemon that owns its devices
name = "local"
listen = "127.0.0.1:13131"
devices = [{names}]
preload = ["helexa/tiny"]            # load at start; others are loaded when they are asked for
# memory = "16GiB"                   # of each device, for models and caches; without it all that is free

# The catalogue. 'helexa/tiny' comes with helexa; other ids are fetched from Hugging Face.
[[models]]
id = "helexa/tiny"

# [[models]]
# id = "Qwen/Qwen3-0.6B"

[aliases]                            # more names for the same models
tiny = "helexa/tiny"

# Where models that nothing here serves come from; the first route that matches wins.
#
# [[providers]]
# name = "cloud"
# kind = "openai"                    # or "anthropic", "ollama"
# base_url = "https://api.openai.com/v1"
# api_key_env = "OPENAI_API_KEY"
#
# [[routes]]
# pattern = "gpt-*"
# providers = ["cloud"]

# An edit takes effect while the fleet serves; 'helexa plan' and this file's name tell beforehand what would change.
#
# A second box runs this same file with 'helexa up FILE --host NAME'. Give every entry its host then:
#
# [cortex]
# host = "gateway"
#
# [[neurons]]
# name = "beast"
# host = "beast"
# listen = "0.0.0.0:13131"
# endpoint = "http://beast.lan:13131"   # where the others reach it
#
# and set the same HELEXA_SECRET in the environment of both.
"""

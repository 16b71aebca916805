"""The engine: a process that owns its device and turns token ids into token ids."""

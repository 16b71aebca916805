"""The per-host daemon's HTTP side: what it tells about its host, and inference on the models it holds."""

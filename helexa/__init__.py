"""Self-hosted LLM serving for mismatched GPU boxes: one TOML file, one endpoint."""

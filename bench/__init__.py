"""The comparison: Koi beside nginx and LiteLLM on this machine, in one command."""

"""The benchmark: compares Koi with nginx and LiteLLM on this machine, in one command."""

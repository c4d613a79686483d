"""The link to Redis: connections, batching, cluster routing, breaker, and how errors are named."""

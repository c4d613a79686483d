"""The Model Context Protocol at /mcp: the small server side that three tools need (decision 51)."""

"""The sandbox: a provider like dieyuyun on loopback, with its own bill."""

"""The stand-in provider: a believable dieyuyun on loopback, with its own bill."""

"""/v1/koi/…: what the operator's console asks for and OpenAI's administration API has no word for.

Every route is the twin of a command: both call the same use cases.
"""

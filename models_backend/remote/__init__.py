"""The remote engine: lanes answered by an OpenAI-compatible server elsewhere, behind the interface of any engine.

It tells what such a server can do, and refuses by name what it cannot. It needs no model library.
"""

"""The text room: one decode loop for all the answers that one base model, and the adapters on it, are giving.

`engine`, `scheduler` and `sequence` decide what is computed next and work on token ids alone; a `Dialect` turns text
into ids and back, and a `Runner` turns ids into the next id. The room knows nothing of the bus, the web or the disk
layout. torch is imported only by the files behind a Runner, when a model is first needed.
"""

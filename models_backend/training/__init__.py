"""The training room: rows in, adapters out, figures beside them.

`tickets` and `pirate` make rows, `batches` turns rows into tensors, `lora` learns, `evaluate` measures, `card` notes
down what came out. Knows nothing of the bus, the worker or the web.
"""

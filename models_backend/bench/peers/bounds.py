"""How large transformers' continuous batching may grow. By default its cache takes most of the memory there is."""

PAGE = 32  # tokens
PAGES = 256
TOKENS = 512  # of one pass

"""The columns of the tables that a step reads: where matrices lie, and what adapters do to them."""

# Sites of a layer that have a matrix. Behind the layers' rows of a table is one for what is around them.
QKV, OUT, UP, DOWN = range(4)
SITES = 4
HEAD, EMBEDDING = 0, 1

# A matrix: offsets in bytes into the weights and the scales, groups of 16 outputs, blocks of 32 inputs, bits, bias
# (an offset in floats, -1 for none).
W, S, GROUPS, BLOCKS, BITS, BIAS = range(6)
MATRIX = 6

# An adapter's site: address of A, its rank in all, number of parts; then for each part the groups that it changes,
# where in A x its rank begins, the rank, and the addresses of its B and of DoRA's gains (0 for none).
A, RANK, COUNT, PART = range(4)
FROM, TO, AT, OF, B, GAIN = range(6)
FIELDS = 6
MAX_PARTS = 3
SITE = PART + FIELDS * MAX_PARTS

"""The inner product that a step is made of, written in LLVM's own words, and the few other things numba cannot say.

A tile multiplies 16 outputs of a packed matrix (pack.py tells the layout) with 1 to 4 rows of activations in whole
numbers of 8 bits, as llama.cpp's Q4_1 x Q8_1 does: within a block of 32 inputs the products are summed exactly, and
only the block's sum is scaled. Each row's sums are taken in the same order whatever rows lie beside it, so a row has
the same bits alone, in a batch and in a prompt.
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16  # outputs of a group
BLOCK = 32  # inputs that share a scale
TILE = 4  # rows at most in one call

_I8, _I32, _I64, _F16, _F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.HalfType(), ir.FloatType()
_BYTES = ir.VectorType(_I8, 4 * LANES)
_WORDS = ir.VectorType(_I32, LANES)
_HALVES = ir.VectorType(_F16, LANES)
_FLOATS = ir.VectorType(_F32, LANES)


def features() -> dict[str, bool]:
    return dict(llvmlite.binding.get_host_cpu_features())


def pick_dot(have: dict[str, bool]) -> str:
    """The best way this processor has to add up products of bytes."""
    if have.get("avx512vnni") and have.get("avx512bw"):
        return "vnni512"
    if have.get("avxvnni") or (have.get("avx512vnni") and have.get("avx512vl")):
        return "vnni256"
    return "avx2" if have.get("avx2") else "plain"


DOT = pick_dot(features())


def _every(type_: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(type_, [value] * type_.count)


def _load(b: Any, type_: ir.Type, address: Any, align: int) -> Any:
    value = b.load(b.inttoptr(address, type_.as_pointer()), typ=type_)
    value.align = align
    return value


def _spread(b: Any, scalar: Any, type_: ir.VectorType) -> Any:
    one = b.insert_element(ir.Constant(type_, ir.Undefined), scalar, _I32(0))
    return b.shuffle_vector(one, ir.Constant(type_, ir.Undefined), _every(ir.VectorType(_I32, type_.count), 0))


def _call(b: Any, name: str, result: ir.Type, *values: Any) -> Any:
    function = b.module.globals.get(name)
    if function is None:
        function = ir.Function(b.module, ir.FunctionType(result, [value.type for value in values]), name)
    return b.call(function, values)


def _half(b: Any, vector: Any, number: int) -> Any:
    count = vector.type.count // 2
    places = [count * number + i for i in range(count)]
    return b.shuffle_vector(
        vector, ir.Constant(vector.type, ir.Undefined), ir.Constant(ir.VectorType(_I32, count), places)
    )


def _join(b: Any, low: Any, high: Any) -> Any:
    count = 2 * low.type.count
    return b.shuffle_vector(low, high, ir.Constant(ir.VectorType(_I32, count), list(range(count))))


def _dot(b: Any, how: str, total: Any, weights: Any, values: Any, wide: bool) -> Any:
    """total[i] += sum of weights[4i + j] * values[4i + j], j = 0..3; unsigned weights (to 15, or to 255 if `wide`)."""
    if how == "vnni512":
        return _call(b, "llvm.x86.avx512.vpdpbusd.512", _WORDS, total, weights, values)
    halves = []
    for i in (0, 1):
        t, w, v = _half(b, total, i), _half(b, weights, i), _half(b, values, i)
        if how == "vnni256":
            halves.append(_call(b, "llvm.x86.avx512.vpdpbusd.256", t.type, t, w, v))
        elif how == "avx2":
            halves.append(_dot_avx2(b, t, w, v, wide))
        else:
            halves.append(_dot_plain(b, t, w, v))
    return _join(b, *halves)


def _dot_avx2(b: Any, total: Any, weights: Any, values: Any, wide: bool) -> Any:
    """Pairs are added in 16 bits, which weights above 127 would overflow: those go in two parts."""
    shorts = ir.VectorType(ir.IntType(16), 16)

    def once(total: Any, weights: Any) -> Any:
        pairs = _call(b, "llvm.x86.avx2.pmadd.ub.sw", shorts, weights, values)
        return b.add(total, _call(b, "llvm.x86.avx2.pmadd.wd", total.type, pairs, _every(shorts, 1)))

    if not wide:
        return once(total, weights)
    low = once(total, b.and_(weights, _every(weights.type, 15)))
    high = once(_every(total.type, 0), b.lshr(weights, _every(weights.type, 4)))
    return b.add(low, b.shl(high, _every(total.type, 4)))


def _dot_plain(b: Any, total: Any, weights: Any, values: Any) -> Any:
    wide = ir.VectorType(_I32, weights.type.count)
    products = b.mul(b.zext(weights, wide), b.sext(values, wide))
    for j in range(4):
        places = ir.Constant(ir.VectorType(_I32, total.type.count), [4 * i + j for i in range(total.type.count)])
        total = b.add(total, b.shuffle_vector(products, ir.Constant(wide, ir.Undefined), places))
    return total


def make_tile(rows: int, bits: int, how: str = DOT) -> Callable[..., None]:
    """An intrinsic for numba: 16 outputs of `rows` rows, summed over all blocks of a matrix of `bits`-bit weights.

    Its arguments are addresses and byte strides: weights, scales, x, x's stride, x's scales, their stride, y, y's
    stride, number of blocks. It writes y[row, 0:16] as float32.
    """
    loads = BLOCK * bits // 8 // 4
    size = loads * 64

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(typing: Any, w: Any, s: Any, x: Any, x_by: Any, d: Any, d_by: Any, y: Any, y_by: Any, blocks: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            w, s, x, x_by, d, d_by, y, y_by, blocks = arguments

            def turn(i: Any, totals: list[Any]) -> list[Any]:
                weights = []
                for t in range(loads):
                    word = _load(b, _BYTES, b.add(b.add(w, b.mul(i, _I64(size))), _I64(64 * t)), 64)
                    if bits == 8:
                        weights.append(word)
                    else:
                        weights += [b.and_(word, _every(_BYTES, 15)), b.lshr(word, _every(_BYTES, 4))]
                scales = b.add(s, b.mul(i, _I64(4 * LANES)))
                scale = b.fpext(_load(b, _HALVES, scales, 32), _FLOATS)
                offset = b.fpext(_load(b, _HALVES, b.add(scales, _I64(2 * LANES)), 32), _FLOATS)
                fresh = []
                for r, total in enumerate(totals):
                    values = b.add(b.add(x, b.mul(i, _I64(BLOCK))), b.mul(x_by, _I64(r)))
                    sums = [_every(_WORDS, 0), _every(_WORDS, 0)]  # two chains: one alone would wait for its own result
                    for t, weight in enumerate(weights):
                        four = _spread(b, _load(b, _I32, b.add(values, _I64(4 * t)), 4), _WORDS)
                        sums[t % 2] = _dot(b, how, sums[t % 2], weight, b.bitcast(four, _BYTES), bits == 8)
                    whole = b.sitofp(b.add(*sums), _FLOATS)
                    x_scale = b.add(b.add(d, b.mul(i, _I64(8))), b.mul(d_by, _I64(r)))
                    by = b.fmul(scale, _spread(b, _load(b, _F32, x_scale, 4), _FLOATS))
                    plus = _spread(b, _load(b, _F32, b.add(x_scale, _I64(4)), 4), _FLOATS)
                    part = _call(b, "llvm.fma.v16f32", _FLOATS, whole, by, total)
                    fresh.append(_call(b, "llvm.fma.v16f32", _FLOATS, offset, plus, part))
                return fresh

            for r, total in enumerate(_loop(b, blocks, rows, turn)):
                b.store(total, b.inttoptr(b.add(y, b.mul(y_by, _I64(r))), _FLOATS.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), generate

    return tile  # type: ignore[no-any-return]


def make_scores(heads: int) -> Callable[..., None]:
    """An intrinsic: products of `heads` queries with 16 keys that lie side by side, element by element.

    Its arguments are addresses, byte strides and a count: queries (float32), their stride, keys (float16 [size, 16]),
    size, scores (float32), their stride. It writes scores[head, 0:16].
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def scores(typing: Any, q: Any, q_by: Any, k: Any, size: Any, out: Any, out_by: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            q, q_by, k, size, out, out_by = arguments

            def turn(i: Any, totals: list[Any]) -> list[Any]:
                keys = b.fpext(_load(b, _HALVES, b.add(k, b.mul(i, _I64(2 * LANES))), 2), _FLOATS)
                fresh = []
                for head, total in enumerate(totals):
                    place = b.add(b.add(q, b.mul(i, _I64(4))), b.mul(q_by, _I64(head)))
                    query = _spread(b, _load(b, _F32, place, 4), _FLOATS)
                    fresh.append(_call(b, "llvm.fma.v16f32", _FLOATS, keys, query, total))
                return fresh

            for head, total in enumerate(_loop(b, size, heads, turn)):
                b.store(total, b.inttoptr(b.add(out, b.mul(out_by, _I64(head))), _FLOATS.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), generate

    return scores  # type: ignore[no-any-return]


def make_low(lanes: int) -> Callable[..., None]:
    """An intrinsic: out[0:lanes] = x times down, float16 [inputs, lanes]; inputs are a multiple of 4.

    Its arguments are addresses and a count: x (float32), down, inputs, out (float32).
    """
    halves, floats = ir.VectorType(_F16, lanes), ir.VectorType(_F32, lanes)

    @intrinsic  # type: ignore[untyped-decorator]
    def low(typing: Any, x: Any, down: Any, inputs: Any, out: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            x, down, inputs, out = arguments

            def turn(i: Any, totals: list[Any]) -> list[Any]:
                fresh = []  # four sums, since one alone would wait for its own last addition
                for j, total in enumerate(totals):
                    k = b.add(b.mul(i, _I64(4)), _I64(j))
                    values = b.fpext(_load(b, halves, b.add(down, b.mul(k, _I64(2 * lanes))), 2), floats)
                    by = _spread(b, _load(b, _F32, b.add(x, b.mul(k, _I64(4))), 4), floats)
                    fresh.append(_call(b, f"llvm.fma.v{lanes}f32", floats, values, by, total))
                return fresh

            one, two, three, four = _loop(b, b.lshr(inputs, _I64(2)), 4, turn, floats)
            total = b.fadd(b.fadd(one, two), b.fadd(three, four))
            b.store(total, b.inttoptr(out, floats.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), generate

    return low  # type: ignore[no-any-return]


def make_mix(heads: int, chunks: int) -> Callable[..., None]:
    """An intrinsic: 16 * `chunks` elements of the values of `count` positions, mixed with `heads` rows of weights.

    Its arguments are addresses, byte strides and a count: weights (float32), their stride, values (float16), their
    stride, count, out (float32), its stride. It writes out[head, 0 : 16 * chunks].
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def mix(typing: Any, w: Any, w_by: Any, v: Any, v_by: Any, count: Any, out: Any, out_by: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            w, w_by, v, v_by, count, out, out_by = arguments

            def turn(i: Any, totals: list[Any]) -> list[Any]:
                here = b.add(v, b.mul(i, v_by))
                values = [
                    b.fpext(_load(b, _HALVES, b.add(here, _I64(2 * LANES * chunk)), 2), _FLOATS)
                    for chunk in range(chunks)
                ]
                fresh = []
                for head in range(heads):
                    place = b.add(b.add(w, b.mul(i, _I64(4))), b.mul(w_by, _I64(head)))
                    weight = _spread(b, _load(b, _F32, place, 4), _FLOATS)
                    for chunk, value in enumerate(values):
                        total = totals[head * chunks + chunk]
                        fresh.append(_call(b, "llvm.fma.v16f32", _FLOATS, value, weight, total))
                return fresh

            for i, total in enumerate(_loop(b, count, heads * chunks, turn)):
                head, chunk = divmod(i, chunks)
                spot = b.add(b.add(out, b.mul(out_by, _I64(head))), _I64(4 * LANES * chunk))
                b.store(total, b.inttoptr(spot, _FLOATS.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), generate

    return mix  # type: ignore[no-any-return]


@intrinsic  # type: ignore[untyped-decorator]
def add_low_rank(typing: Any, out: Any, u: Any, up: Any, rank: Any, groups: Any) -> Any:
    """out[0 : 16 * groups] += u [rank] times up, float16 [groups, rank, 16]. Addresses, and at least one of each."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        out, u, up, rank, groups = arguments

        def group(g: Any, nothing: list[Any]) -> list[Any]:
            here = b.add(up, b.mul(b.mul(g, rank), _I64(2 * LANES)))

            def turn(i: Any, totals: list[Any]) -> list[Any]:
                values = b.fpext(_load(b, _HALVES, b.add(here, b.mul(i, _I64(2 * LANES))), 2), _FLOATS)
                by = _spread(b, _load(b, _F32, b.add(u, b.mul(i, _I64(4))), 4), _FLOATS)
                return [_call(b, "llvm.fma.v16f32", _FLOATS, values, by, totals[0])]

            [total] = _loop(b, rank, 1, turn)
            spot = b.add(out, b.mul(g, _I64(4 * LANES)))
            sum_ = b.fadd(_load(b, _FLOATS, spot, 4), total)
            b.store(sum_, b.inttoptr(spot, _FLOATS.as_pointer()), align=4)
            return nothing

        _loop(b, groups, 0, group)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


def _loop(
    b: Any, count: Any, sums: int, turn: Callable[[Any, list[Any]], list[Any]], kind: ir.VectorType = _FLOATS
) -> list[Any]:
    """Run `turn` for 0 .. count - 1 (at least once) on `sums` vectors that begin at zero; returns the last ones."""
    before, body, done = b.block, b.function.append_basic_block("turn"), b.function.append_basic_block("done")
    b.branch(body)
    b.position_at_end(body)
    i, totals = b.phi(_I64), [b.phi(kind) for _ in range(sums)]
    fresh = turn(i, totals)
    following, tail = b.add(i, _I64(1)), b.block  # a turn may have loops of its own
    for phi, first, later in (
        (i, _I64(0), following),
        *((t, _every(kind, 0.0), f) for t, f in zip(totals, fresh, strict=True)),
    ):
        phi.add_incoming(first, before)
        phi.add_incoming(later, tail)
    b.cbranch(b.icmp_signed("<", following, count), body, done)
    b.position_at_end(done)
    return fresh


@intrinsic  # type: ignore[untyped-decorator]
def half_to_float(typing: Any, bits: Any) -> Any:
    """The float32 of a float16 that is kept as uint16, which numba has no type for on a CPU."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        return b.fpext(b.bitcast(arguments[0], _F16), _F32)

    return types.float32(types.uint16), generate


@intrinsic  # type: ignore[untyped-decorator]
def float_to_half(typing: Any, value: Any) -> Any:
    """The nearest float16, as uint16."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        return b.bitcast(b.fptrunc(arguments[0], _F16), ir.IntType(16))

    return types.uint16(types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def fetch_add(typing: Any, address: Any, value: Any) -> Any:
    """Add to the int64 at `address`, seen by all threads at once; returns what was there."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        address, value = arguments
        return b.atomic_rmw("add", b.inttoptr(address, _I64.as_pointer()), value, "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def peek(typing: Any, address: Any) -> Any:
    """The int64 at `address` as other threads have last left it."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        return b.load_atomic(b.inttoptr(arguments[0], _I64.as_pointer()), "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def float_bits(typing: Any, bits: Any) -> Any:
    """The float32 that has these bits."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        return b.bitcast(arguments[0], _F32)

    return types.float32(types.int32), generate


@intrinsic  # type: ignore[untyped-decorator]
def address(typing: Any, number: Any) -> Any:
    """A pointer for numba's carray."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        return b.inttoptr(arguments[0], _I8.as_pointer())

    return types.voidptr(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def bits_of(typing: Any, value: Any) -> Any:
    """The bits of a float32 as an int32."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        return b.bitcast(arguments[0], _I32)

    return types.int32(types.float32), generate

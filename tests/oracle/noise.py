"""Patchboard's noise: for each seed and position, standard normal numbers of its own.

It is that of Rust's rand 0.9 and rand_distr 0.5: ChaCha with 12 rounds, whose key a PCG32 makes of the seed, and the
ziggurat of Marsaglia and Tsang with 256 layers, from 64 random bits a try.
"""

import math

U32, U64 = (1 << 32) - 1, (1 << 64) - 1
# Spreads positions over the seeds.
ODD = 0x9E37_79B9_7F4A_7C15

# The edges of the ziggurat's layers, the outermost first, and the density there; the tail begins at R.
R = 3.654152885361008796
AREA = R * math.exp(-R * R / 2) + math.sqrt(math.pi / 2) * math.erfc(R / math.sqrt(2))


def density(x):
    return math.exp(-x * x / 2)


def edges():
    x = [AREA / density(R), R]
    while len(x) < 256:
        x.append(math.sqrt(-2 * math.log(AREA / x[-1] + density(x[-1]))))
    return [*x, 0.0]


X = edges()
F = [density(x) for x in X]


def key(seed):
    """Eight words."""
    words = []
    for _ in range(8):
        seed = (seed * 6364136223846793005 + 11634580027462260723) & U64
        word, turn = ((seed >> 18 ^ seed) >> 27) & U32, seed >> 59
        words.append((word >> turn | word << (-turn & 31)) & U32)
    return words


def blocks(seed):
    """Sixteen words at a time."""
    constants = [0x6170_7865, 0x3320_646E, 0x7962_2D32, 0x6B20_6574]
    start = [*constants, *key(seed), 0, 0, 0, 0]
    while True:
        x = list(start)

        def quarter(a, b, c, d):
            for left, right, changed, turn in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)]:
                x[left] = (x[left] + x[right]) & U32
                x[changed] ^= x[left]
                x[changed] = (x[changed] << turn | x[changed] >> (32 - turn)) & U32

        for _ in range(6):
            for i in range(4):
                quarter(i, 4 + i, 8 + i, 12 + i)
            for i in range(4):
                quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
        yield [(one + other) & U32 for one, other in zip(x, start)]
        start[12] += 1


def bits(seed):
    """64 at a time."""
    for block in blocks(seed):
        yield from (low | high << 32 for low, high in zip(block[::2], block[1::2]))


def normal(random):
    """One number."""

    def open01():
        return ((next(random) >> 12) + 0.5) / 2**52

    while True:
        drawn = next(random)
        layer, u = drawn & 255, (drawn >> 12) / 2**51 - 1
        x = u * X[layer]
        if abs(x) < X[layer + 1]:
            return x
        if layer == 0:
            while True:
                x, y = math.log(open01()) / R, math.log(open01())
                if -2 * y >= x * x:
                    return x - R if u < 0 else R - x
        if F[layer + 1] + (F[layer] - F[layer + 1]) * ((next(random) >> 11) / 2**53) < density(x):
            return x


def noise(seed, position, width):
    """The numbers that are added, in units of their standard deviation."""
    random = bits(seed ^ ((position + 1) * ODD & U64))
    return [normal(random) for _ in range(width)]

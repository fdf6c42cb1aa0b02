"""Which day's table may hold an id: a Bloom filter a day, so that no table is searched in vain."""

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_BITS_PER_ID = 16
_PROBES = 4
"""With 16 bits and 4 probes an id, a full filter errs for 0.24 % of strangers, a half full one for 0.02 %."""


_AT_ONCE = 65_536
"""Ids that are added at once: the bits of one take 200 bytes on the way, a day may have millions."""


class IdFilter:
    """A set of ids, by their 64-bit hashes, that may say yes wrongly and never says no wrongly (Bloom, 1970).

    2 to 4 bytes an id; it cannot grow, so past `capacity` it is to be built anew.
    """

    def __init__(self, capacity: int) -> None:
        bits = 1 << max(12, (capacity * _BITS_PER_ID - 1).bit_length())
        self.capacity = bits // _BITS_PER_ID
        self.size = 0
        self._mask = np.uint64(bits - 1)
        self._words = np.zeros(bits // 64, np.uint64)

    def _probes(self, hashes: Hashes) -> NDArray[np.uint64]:
        """The bits of each id, shape (ids, probes): double hashing (Kirsch and Mitzenmacher, 2006)."""
        low, high = hashes & np.uint64(0xFFFFFFFF), (hashes >> np.uint64(32)) | np.uint64(1)
        steps = np.arange(_PROBES, dtype=np.uint64)
        return (low[:, None] + high[:, None] * steps) & self._mask

    def add(self, hashes: Hashes) -> None:
        for start in range(0, len(hashes), _AT_ONCE):
            bits = self._probes(hashes[start : start + _AT_ONCE]).ravel()
            np.bitwise_or.at(self._words, bits >> np.uint64(6), np.uint64(1) << (bits & np.uint64(63)))
        self.size += len(hashes)

    def may_hold(self, hashes: Hashes) -> NDArray[np.bool_]:
        """For each id: False if it is not in the set."""
        bits = self._probes(hashes)
        held = (self._words[bits >> np.uint64(6)] >> (bits & np.uint64(63))) & np.uint64(1)
        return np.asarray(held.all(axis=1), np.bool_)

"""Parts as bytes: one packed binary field a part (zlib over msgpack; counts in the narrowest unsigned type).

The first byte is the format's version, so that a later kedge can read what an earlier one wrote. A part that
an earlier format can hold is written in it: its bytes, by which baselines are known, stay the same.
"""

import zlib
from typing import Any

import msgspec
import numpy as np

from kedge.errors import KedgeError
from kedge.sketch.custom import AnyPart, Custom, Distinct, Tally
from kedge.sketch.moments import Moments
from kedge.sketch.parts import Cells, Core, Labels, PartName
from kedge.sketch.scale import Counts

FORMAT = 4
"""2: `core` has attributions at its end; 3: and then measurements; 4: `labels` has ranks at its end."""
_WITHOUT_ATTRIBUTIONS = 1
_WITHOUT_MEASURED = 2
_WITHOUT_RANKS = 3
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()
_WIDTHS = tuple((np.dtype(f"<u{size}"), 2 ** (8 * size) - 1) for size in (1, 2, 4, 8))
"""Little-endian, with the highest count each holds."""


def _counts(counts: Counts) -> list[Any]:
    """[bytes per count, leading zeros, length, little-endian bytes without the zeros on both ends]."""
    held = counts.nonzero()[0]
    if not held.size:
        return [1, 0, counts.size, b""]
    start, stop = int(held[0]), int(held[-1]) + 1
    highest = int(counts.max())
    kind = next(kind for kind, most in _WIDTHS if highest <= most)
    return [kind.itemsize, start, counts.size, counts[start:stop].astype(kind).tobytes()]


def _uncounts(packed: list[Any]) -> Counts:
    width, start, size, data = packed
    counts = np.zeros(size, np.int64)
    narrow = np.frombuffer(data, np.dtype(f"<u{width}"))
    counts[start : start + narrow.size] = narrow
    return counts


def _moments(m: Moments) -> list[float]:
    return [m.n, m.mean, m.m2, m.low, m.high] if m.n else []


def _unmoments(packed: list[Any]) -> Moments:
    return Moments(*packed) if packed else Moments.ZERO


def _tally(tally: Tally) -> list[Any]:
    distinct = sorted(tally.distinct.hashes)
    return [tally.rows, _moments(tally.values), _counts(tally.cells), distinct, tally.distinct.more]


def _untally(packed: list[Any]) -> Tally:
    rows, values, cells, hashes, more = packed
    return Tally(rows, _unmoments(values), _uncounts(cells), Distinct(frozenset(hashes), more))


def pack(part: AnyPart) -> bytes:
    """A part as bytes; `unpack` gives back an equal one."""
    content: list[Any]
    written = _WITHOUT_ATTRIBUTIONS
    match part:
        case Core():
            content = [
                part.rows,
                part.errors,
                _counts(part.latency),
                _moments(part.latency_ms),
                {k: _counts(v) for k, v in sorted(part.scores.items())},
                _moments(part.confidence),
                _moments(part.entropy),
                _moments(part.value),
                {k: _moments(v) for k, v in sorted(part.numeric.items())},
                dict(sorted(part.present.items())),
                dict(sorted(part.invalid.items())),
            ]
            if part.attributions or part.measured:
                written = _WITHOUT_RANKS if part.measured else _WITHOUT_MEASURED
                content.append({k: _moments(v) for k, v in sorted(part.attributions.items())})
            if part.measured:
                content.append({k: _moments(v) for k, v in sorted(part.measured.items())})
        case Cells():
            content = [[name, digest, _counts(c)] for name, (digest, c) in sorted(part.features.items())]
        case Labels():
            content = [
                part.rows,
                [[a, b, _counts(c)] for (a, b), c in sorted(part.scores.items())],
                _moments(part.log_loss),
                _moments(part.brier),
                _moments(part.error),
                _moments(part.abs_error),
                _moments(part.squared_error),
                _moments(part.value),
                _counts(part.delay),
            ]
            if part.ranks:
                written = FORMAT
                content.append([[cls, own, _counts(c)] for (cls, own), c in sorted(part.ranks.items())])
        case Custom():
            content = [[key, *_tally(tally)] for key, tally in sorted(part.tallies.items())]
    return bytes([written]) + zlib.compress(_encoder.encode(content), 6)


def check_format(data: bytes) -> None:
    """Raises KedgeError for bytes in a format of a later kedge."""
    if not data or not _WITHOUT_ATTRIBUTIONS <= data[0] <= FORMAT:
        found = data[0] if data else "none"
        raise KedgeError(
            f"a summary is packed in format {found}, this kedge reads up to {FORMAT}: upgrade kedge"
        )


def unpack(name: PartName, data: bytes) -> AnyPart:
    """The part of that name from its bytes; raises KedgeError for a format of a later kedge."""
    check_format(data)
    c = _decoder.decode(zlib.decompress(data[1:]))
    match name:
        case PartName.CORE:
            return Core(
                rows=c[0],
                errors=c[1],
                latency=_uncounts(c[2]),
                latency_ms=_unmoments(c[3]),
                scores={k: _uncounts(v) for k, v in c[4].items()},
                confidence=_unmoments(c[5]),
                entropy=_unmoments(c[6]),
                value=_unmoments(c[7]),
                numeric={k: _unmoments(v) for k, v in c[8].items()},
                present=c[9],
                invalid=c[10],
                attributions={k: _unmoments(v) for k, v in c[11].items()} if len(c) > 11 else {},
                measured={k: _unmoments(v) for k, v in c[12].items()} if len(c) > 12 else {},
            )
        case PartName.CELLS:
            return Cells({feature: (digest, _uncounts(counts)) for feature, digest, counts in c})
        case PartName.LABELS:
            return Labels(
                rows=c[0],
                scores={(a, b): _uncounts(v) for a, b, v in c[1]},
                log_loss=_unmoments(c[2]),
                brier=_unmoments(c[3]),
                error=_unmoments(c[4]),
                abs_error=_unmoments(c[5]),
                squared_error=_unmoments(c[6]),
                value=_unmoments(c[7]),
                delay=_uncounts(c[8]),
                ranks={(cls, own): _uncounts(v) for cls, own, v in c[9]} if len(c) > 9 else {},
            )
        case PartName.CUSTOM:
            return Custom({key: _untally(packed) for key, *packed in c})

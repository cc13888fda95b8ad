#!/usr/bin/env python3
"""An independent model of a set and its tickets: which nonces win.

Writes winners.txt beside itself. Nothing is shared with the crate: keccak, secp256k1 and RFC 6979
are written out here from their definitions (FIPS 202 with Ethereum's padding, SEC 2, RFC 6979);
HMAC and SHA-256 are Python's.
"""

import hashlib
import hmac
import pathlib

TICKETS = 600

MASK = (1 << 64) - 1
ROTATION = [
    [0, 36, 3, 41, 18], [1, 44, 10, 45, 2], [62, 6, 43, 15, 61], [28, 55, 25, 21, 56],
    [27, 20, 39, 8, 14],
]


def round_constants():
    register, constants = 1, []
    for _ in range(24):
        constant = 0
        for j in range(7):
            if register & 1:
                constant |= 1 << ((1 << j) - 1)
            register = (register << 1) ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return constants


CONSTANTS = round_constants()


def turn(value, by):
    return ((value << by) | (value >> (64 - by))) & MASK if by else value


def permute(a):
    for constant in CONSTANTS:
        c = [a[x][0] ^ a[x][1] ^ a[x][2] ^ a[x][3] ^ a[x][4] for x in range(5)]
        d = [c[(x - 1) % 5] ^ turn(c[(x + 1) % 5], 1) for x in range(5)]
        a = [[a[x][y] ^ d[x] for y in range(5)] for x in range(5)]
        b = [[0] * 5 for _ in range(5)]
        for x in range(5):
            for y in range(5):
                b[y][(2 * x + 3 * y) % 5] = turn(a[x][y], ROTATION[x][y])
        a = [[b[x][y] ^ (~b[(x + 1) % 5][y] & b[(x + 2) % 5][y]) for y in range(5)]
             for x in range(5)]
        a[0][0] ^= constant
    return a


def keccak(data):
    rate = 136
    data = bytearray(data) + b"\x01"
    data += bytes(-len(data) % rate)
    data[-1] |= 0x80
    a = [[0] * 5 for _ in range(5)]
    for start in range(0, len(data), rate):
        for i in range(rate // 8):
            word = int.from_bytes(data[start + 8 * i:start + 8 * i + 8], "little")
            a[i % 5][i // 5] ^= word
        a = permute(a)
    return b"".join(a[i % 5][i // 5].to_bytes(8, "little") for i in range(4))


P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
     0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8)


def double(p):
    x, y, z = p
    s = 4 * x * y * y % P
    m = 3 * x * x % P
    x2 = (m * m - 2 * s) % P
    return x2, (m * (s - x2) - 8 * pow(y, 4, P)) % P, 2 * y * z % P


def add(p, q):
    if p[2] == 0:
        return q
    if q[2] == 0:
        return p
    z1, z2 = p[2] * p[2] % P, q[2] * q[2] % P
    u1, u2 = p[0] * z2 % P, q[0] * z1 % P
    s1, s2 = p[1] * z2 * q[2] % P, q[1] * z1 * p[2] % P
    if u1 == u2:
        return double(p) if s1 == s2 else (0, 1, 0)
    h, r = (u2 - u1) % P, (s2 - s1) % P
    h2 = h * h % P
    h3, v = h * h2 % P, u1 * h2 % P
    x = (r * r - h3 - 2 * v) % P
    return x, (r * (v - x) - s1 * h3) % P, h * p[2] * q[2] % P


def times(k):
    total, power = (0, 1, 0), (*G, 1)
    while k:
        if k & 1:
            total = add(total, power)
        power = double(power)
        k >>= 1
    inverse = pow(total[2], -1, P)
    return total[0] * inverse**2 % P, total[1] * inverse**3 % P


def address(key):
    x, y = times(key)
    return keccak(x.to_bytes(32, "big") + y.to_bytes(32, "big"))[12:]


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def sign(key, digest):
    """RFC 6979 without extra data, low s, v 27 or 28."""
    h = int.from_bytes(digest, "big")
    secret, hashed = key.to_bytes(32, "big"), (h % N).to_bytes(32, "big")
    v, k = b"\x01" * 32, b"\x00" * 32
    k = mac(k, v + b"\x00" + secret + hashed)
    v = mac(k, v)
    k = mac(k, v + b"\x01" + secret + hashed)
    v = mac(k, v)
    while True:
        v = mac(k, v)
        nonce = int.from_bytes(v, "big")
        if 0 < nonce < N:
            x, y = times(nonce)
            r = x % N
            s = pow(nonce, -1, N) * (h + r * key) % N
            if r and s:
                parity = y & 1
                if s > N // 2:
                    s, parity = N - s, parity ^ 1
                return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + parity])
        k = mac(k, v + b"\x00")
        v = mac(k, v)


def number(value, size):
    return value.to_bytes(size, "big")


def main():
    sender_key = int.from_bytes(b"\x01" * 32, "big")
    sender, recipient = address(sender_key), address(int.from_bytes(b"\x02" * 32, "big"))
    fee, face_value, most = 1000, 4000, 2**256 - 1
    win_prob = -(-fee * most // face_value)
    serial, epoch, width, height, seal_block, round_number = 1, 5, 640, 360, 100, 3
    round_hash = b"\x09" * 32
    fields = [
        b"millstream-frame-set-1", number(0, 8), bytes(20), number(epoch, 8), number(serial, 4),
        keccak(b"a session"), recipient, sender, number(width, 4), number(height, 4),
        number(fee, 32), number(face_value, 32), number(win_prob, 32), number(seal_block, 8),
        number(round_number, 8), round_hash,
    ]
    rand = mac(b"\x03" * 32, b"".join(number(len(f), 4) + f for f in fields))
    rand_hash = keccak(rand)
    winners, hashes = [], []
    for nonce in range(1, TICKETS + 1):
        ticket = keccak(recipient + sender + number(face_value, 32) + number(win_prob, 32)
                        + number(nonce, 32) + rand_hash + number(round_number, 32) + round_hash)
        hashes.append(ticket)
        signature = sign(sender_key, keccak(b"\x19Ethereum Signed Message:\n32" + ticket))
        if int.from_bytes(keccak(signature + rand), "big") < win_prob:
            winners.append(nonce)
    lines = [
        "tickets " + str(TICKETS), "sender " + sender.hex(), "recipient " + recipient.hex(),
        "rand_hash " + rand_hash.hex(), "hashes " + keccak(b"".join(hashes)).hex(),
        "winners " + " ".join(map(str, winners)),
    ]
    target = pathlib.Path(__file__).with_suffix(".txt")
    target.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    assert keccak(b"").hex().startswith("c5d2460186f7233c")
    main()

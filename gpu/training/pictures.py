"""Pictures for training, made by chance: leaves, strokes, gradients, textures, letters.

Nothing is read from disk. Edges are made smooth by drawing at twice the size. All pictures are
luma, float32 from 0 to 1.
"""

import numpy as np

OVER = 2  # drawn this many times larger, then averaged down


def cloud(rng, size, power):
    """Noise whose spectrum falls with frequency to this power: about 1 is like nature's."""
    fy = np.fft.fftfreq(size)[:, None]
    fx = np.fft.rfftfreq(size)[None, :]
    # Stretched and turned, so that textures have a grain.
    turn, stretch = rng.uniform(0, np.pi), rng.choice([1.0, 1.0, 2.0, 5.0])
    u = fx * np.cos(turn) + fy * np.sin(turn)
    v = (fy * np.cos(turn) - fx * np.sin(turn)) * stretch
    reach = np.sqrt(u * u + v * v)
    reach[0, 0] = 1.0
    noise = rng.standard_normal((size, size // 2 + 1)) + 1j * rng.standard_normal(
        (size, size // 2 + 1)
    )
    field = np.fft.irfft2(noise / reach**power, (size, size))
    field -= field.mean()
    return (field / (field.std() + 1e-9)).astype(np.float32)


def texture(rng, bank, size):
    """What a surface looks like: flat, a gradient, a cloud, or waves."""
    kind = rng.integers(0, 6)
    base = rng.uniform(0.02, 0.98)
    if kind == 0:
        return np.full((size, size), base, np.float32)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    turn = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(turn) + y * np.sin(turn)
    if kind == 1:
        return (base + rng.uniform(-0.6, 0.6) * along).astype(np.float32)
    if kind == 2:
        period = rng.uniform(3, 40) * OVER / size
        wave = np.sin(2 * np.pi * along / period + rng.uniform(0, 6))
        if rng.random() < 0.5:
            wave = np.clip(wave * 6, -1, 1)
        return (base + rng.uniform(0.03, 0.3) * wave).astype(np.float32)
    field = bank[rng.integers(len(bank))]
    oy, ox = rng.integers(0, field.shape[0] - size + 1, 2)
    field = field[oy : oy + size, ox : ox + size]
    return base + rng.uniform(0.02, 0.2) * field + rng.uniform(-0.2, 0.2) * along


def paint(rng, canvas, bank, size_of):
    """One thing on the canvas: an ellipse, a polygon, a stroke or a row of letter-like marks."""
    full = canvas.shape[0]
    radius = size_of(rng)
    kind = rng.integers(0, 4)
    cy, cx = rng.uniform(-0.05, 1.05, 2) * full
    reach = int(radius * 1.5) + 3
    y0, y1 = max(0, int(cy) - reach), min(full, int(cy) + reach)
    x0, x1 = max(0, int(cx) - reach), min(full, int(cx) + reach)
    if y1 - y0 < 2 or x1 - x0 < 2:
        return
    y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
    y, x = y - np.float32(cy), x - np.float32(cx)
    turn = rng.uniform(0, np.pi)
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    u, v = x * c + y * s, y * c - x * s
    if kind == 0:
        mask = (u / radius) ** 2 + (v / (radius * rng.uniform(0.2, 1))) ** 2 < 1
    elif kind == 1:
        mask = np.ones_like(u, bool)
        corners = rng.integers(3, 7)
        for k in range(corners):
            a = 2 * np.pi * k / corners + rng.uniform(-0.3, 0.3)
            mask &= u * np.float32(np.cos(a)) + v * np.float32(np.sin(a)) < radius * rng.uniform(0.4, 1)
    elif kind == 2:
        bend = rng.uniform(-0.6, 0.6) / radius
        width = rng.uniform(0.6, 4) * OVER
        mask = (np.abs(v - bend * u * u) < width) & (np.abs(u) < radius)
    else:
        pitch = rng.uniform(4, 14) * OVER
        thick = rng.uniform(0.12, 0.3)
        cell_u, cell_v = np.floor(u / pitch).astype(int), np.floor(v / (pitch * 1.5)).astype(int)
        du, dv = u / pitch - cell_u - 0.45, v / (pitch * 1.5) - cell_v - 0.5
        mark = (cell_u * 7 + cell_v * 13) % 5
        ring = np.abs(np.sqrt(du * du + dv * dv) - 0.27) < thick / 2
        stem = (np.abs(du + 0.2) < thick / 2) & (np.abs(dv) < 0.4)
        bar = (np.abs(dv) < thick / 3) & (np.abs(du) < 0.3)
        slope = (np.abs(du - dv * 0.6) < thick / 2) & (np.abs(dv) < 0.4)
        parts = [ring, stem | bar, slope | bar, ring | stem, slope]
        mask = np.select([mark == k for k in range(5)], parts, False)
        mask &= (np.abs(u) < radius) & (np.abs(v) < radius * 0.6)
    side = max(y1 - y0, x1 - x0)
    skin = texture(rng, bank, side)[: y1 - y0, : x1 - x0]
    canvas[y0:y1, x0:x1] = np.where(mask, skin, canvas[y0:y1, x0:x1])


def blur(picture, sigma):
    """Gaussian blur by way of the spectrum; the picture's ends meet."""
    size_y, size_x = picture.shape
    fy = np.fft.fftfreq(size_y)[:, None]
    fx = np.fft.rfftfreq(size_x)[None, :]
    fall = np.exp(-2 * (np.pi * sigma) ** 2 * (fx * fx + fy * fy))
    return np.fft.irfft2(np.fft.rfft2(picture) * fall, picture.shape).astype(np.float32)


def picture(rng, bank, size):
    """One picture of size by size."""
    full = size * OVER
    canvas = np.clip(texture(rng, bank, full), 0, 1)
    biggest, smallest = full / 4, rng.uniform(2, 8) * OVER
    power = rng.uniform(1.6, 3.0)

    def size_of(rng):
        # Dead leaves: sizes follow a power law, so that the picture looks alike at all scales.
        t = rng.random()
        a, b = smallest ** (1 - power), biggest ** (1 - power)
        return (a + t * (b - a)) ** (1 / (1 - power))

    for _ in range(int(rng.integers(60, 420))):
        paint(rng, canvas, bank, size_of)
    if rng.random() < 0.5:  # light that varies, as on round things
        light = bank[rng.integers(len(bank))]
        canvas = canvas * (1 + 0.12 * blur(light[:full, :full], full / 16) * 4)
    if rng.random() < 0.35:  # out of focus
        canvas = blur(canvas, rng.uniform(0.6, 3.0) * OVER / 2)
    canvas = np.clip(canvas, 0, 1)
    small = canvas.reshape(size, OVER, size, OVER).mean((1, 3))
    if rng.random() < 0.7:  # grain of fine texture everywhere
        field = bank[rng.integers(len(bank))][:size, :size]
        small = small + rng.uniform(0.005, 0.04) * field
    return np.clip(small, 0, 1).astype(np.float32)


def pictures(seed, count, size):
    """Many pictures; equal seeds give equal pictures."""
    rng = np.random.default_rng(seed)
    full = size * OVER
    bank = [cloud(rng, full, rng.uniform(0.7, 1.7)) for _ in range(24)]
    return np.stack([picture(rng, bank, size) for _ in range(count)])


def halve_box(picture):
    """Half the size, each sample the mean of four: what a sensor or a box filter does."""
    h, w = picture.shape[-2:]
    return picture.reshape(*picture.shape[:-2], h // 2, 2, w // 2, 2).mean((-3, -1))


def _taps(kernel, reach):
    at = np.arange(-reach + 0.5, reach)
    taps = kernel(at / 2)
    return (taps / taps.sum()).astype(np.float32)


def _cubic(x):
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(x):
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


CUBIC = _taps(_cubic, 4)
LANCZOS = _taps(_lanczos, 6)


def halve(picture, taps):
    """Half the size through a filter that keeps frequencies from folding."""
    pad = len(taps) // 2 - 1
    for axis in (-2, -1):
        width = [(0, 0)] * picture.ndim
        width[axis] = (pad, pad)
        wide = np.moveaxis(np.pad(picture, width, mode="edge"), axis, -1)
        n = picture.shape[axis] // 2
        out = sum(t * wide[..., k : k + 2 * n : 2] for k, t in enumerate(taps))
        picture = np.moveaxis(out, -1, axis)
    return picture.astype(np.float32)


def _dct():
    k, n = np.mgrid[0:8, 0:8]
    m = np.cos(np.pi * (2 * n + 1) * k / 16) * np.sqrt(2 / 8)
    m[0] /= np.sqrt(2)
    return m.astype(np.float32)


DCT = _dct()
# Coarser for fine detail, as the tables of JPEG and the default matrices of H.264 are.
STEEP = (1 + 0.25 * np.add.outer(np.arange(8), np.arange(8))).astype(np.float32)


def compress(picture, step):
    """The loss of a block codec: 8x8 cosine transform, rounded to steps."""
    h, w = picture.shape
    whole = np.pad(picture, ((0, -h % 8), (0, -w % 8)), mode="edge")
    blocks = whole.reshape(whole.shape[0] // 8, 8, whole.shape[1] // 8, 8).swapaxes(1, 2)
    freq = DCT @ blocks @ DCT.T
    q = step * STEEP
    freq = np.round(freq / q) * q
    blocks = DCT.T @ freq @ DCT
    return blocks.swapaxes(1, 2).reshape(whole.shape)[:h, :w].astype(np.float32)


def spoil(rng, low):
    """What happens to a small picture on its way: nothing, noise, compression, or both."""
    kind = rng.random()
    if kind < 0.4:
        return low
    if kind < 0.8:
        low = low + rng.uniform(0.5, 8) / 255 * rng.standard_normal(low.shape).astype(np.float32)
    if kind > 0.65:
        low = compress(low, rng.uniform(2, 16) / 255)
    return np.clip(low, 0, 1).astype(np.float32)

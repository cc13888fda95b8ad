"""Compares a model with bicubic interpolation on photographs that it never saw.

    pip install scikit-image==0.26.0 onnxruntime==1.31.1
    python gpu/training/evaluate.py [MODEL]

The photographs are those inside scikit-image's package. Each is halved, spoilt or not, and doubled
again; with FFmpeg on the path one row goes through H.264. PSNR is taken over luma and over red, green and blue, without a rim of four samples. Chroma
is doubled by bicubic interpolation on both sides, as the node does it.
"""

import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
import onnxruntime
from skimage import data

import pictures as make

NAMES = ["astronaut", "coffee", "chelsea", "rocket"]
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def photographs():
    for name in NAMES:
        picture = getattr(data, name)().astype(np.float32) / 255
        h, w = picture.shape[0] // 4 * 4, picture.shape[1] // 4 * 4
        yield name, picture[:h, :w].transpose(2, 0, 1)
    for name in ["camera", "coins", "brick", "grass", "gravel"]:
        picture = getattr(data, name)().astype(np.float32) / 255
        h, w = picture.shape[0] // 4 * 4, picture.shape[1] // 4 * 4
        yield name, np.stack([picture[:h, :w]] * 3)


def double_cubic(picture):
    """Twice the size by cubic convolution (a = -0.5) with the rim repeated."""
    even = make._cubic(np.array([1.75, 0.75, 0.25, 1.25])).astype(np.float32)
    for axis in (-2, -1):
        width = [(0, 0)] * picture.ndim
        width[axis] = (2, 2)
        wide = np.moveaxis(np.pad(picture, width, mode="edge"), axis, -1)
        n = picture.shape[axis]
        first = sum(even[k] * wide[..., k : k + n] for k in range(4))
        second = sum(even[3 - k] * wide[..., k + 1 : k + 1 + n] for k in range(4))
        both = np.stack([first, second], -1).reshape(*first.shape[:-1], 2 * n)
        picture = np.moveaxis(both, -1, axis)
    return picture


def psnr(a, b):
    error = (np.clip(a, 0, 1) - b)[..., 4:-4, 4:-4]
    return -10 * np.log10(np.mean(error**2))


def eight_bits(picture):
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.float32) / 255


def h264(picture, quality):
    """Through FFmpeg's x264 as 4:2:0, one key frame, and back."""
    _, h, w = picture.shape
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24"]
    quiet = ["ffmpeg", "-v", "error"]
    code = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", str(quality), "-pix_fmt", "yuv420p"]
    samples = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0).tobytes()
    coded = subprocess.run(
        [*quiet, *raw, "-s", f"{w}x{h}", "-i", "-", *code, "-f", "h264", "-"],
        input=samples, capture_output=True, check=True,
    ).stdout
    plain = subprocess.run(
        [*quiet, "-f", "h264", "-i", "-", *raw, "-"], input=coded, capture_output=True, check=True
    ).stdout
    return np.frombuffer(plain, np.uint8).reshape(h, w, 3).transpose(2, 0, 1) / np.float32(255)


def conditions(seed):
    rng = np.random.default_rng(seed)
    noise = lambda p, s: p + s / 255 * rng.standard_normal(p.shape).astype(np.float32)
    code = lambda p, q: np.stack([make.compress(c, q / 255) for c in p])
    coded = [("H.264, x264 crf 23", lambda p: h264(make.halve(p, make.CUBIC), 23))]
    return [
        ("clean, bicubic", lambda p: make.halve(p, make.CUBIC)),
        ("clean, box", make.halve_box),
        ("noise 3/255", lambda p: noise(make.halve(p, make.CUBIC), 3)),
        ("noise 6/255", lambda p: noise(make.halve(p, make.CUBIC), 6)),
        ("compressed", lambda p: code(make.halve(p, make.CUBIC), 6)),
        ("noise 3/255, compressed", lambda p: code(noise(make.halve(p, make.CUBIC), 3), 8)),
        *(coded if shutil.which("ffmpeg") else []),
    ]


def main():
    default = pathlib.Path(__file__).parent.parent / "models" / "superres2x.onnx"
    path = sys.argv[1] if len(sys.argv) > 1 else default
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    run = lambda luma: session.run(None, {"luma": luma[None, None]})[0][0, 0]

    wins = losses = 0
    print("| input | bicubic Y | model Y | gain Y | bicubic RGB | model RGB | gain RGB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    details = []
    for label, spoil in conditions(7):
        rows = []
        for name, large in photographs():
            small = eight_bits(spoil(large))
            luma = np.tensordot(LUMA, small, 1)
            wanted = np.tensordot(LUMA, large, 1)
            plain = double_cubic(small)
            better = run(luma)
            tint = plain - np.tensordot(LUMA, plain, 1)
            row = [
                psnr(np.tensordot(LUMA, plain, 1), wanted),
                psnr(better, wanted),
                psnr(plain, large),
                psnr(tint + better, large),
            ]
            rows.append(row)
            wins, losses = wins + (row[1] > row[0]), losses + (row[1] <= row[0])
            details.append((label, name, row))
        a, b, c, d = np.mean(rows, 0)
        print(f"| {label} | {a:.2f} | {b:.2f} | {b - a:+.2f} | {c:.2f} | {d:.2f} | {d - c:+.2f} |")
    print(f"\nbetter in {wins} of {wins + losses} cases")
    for label, name, row in details:
        print(f"  {label:24} {name:10} Y {row[0]:.2f} -> {row[1]:.2f}  RGB {row[2]:.2f} -> {row[3]:.2f}")

    luma = np.random.default_rng(1).random((360, 640), np.float32)
    times = []
    for _ in range(40):
        begun = time.perf_counter()
        run(luma)
        times.append(time.perf_counter() - begun)
    print(f"640x360 on one thread: median {1e3 * np.median(times):.1f} ms, best {1e3 * min(times):.1f} ms")


if __name__ == "__main__":
    main()

"""Trains gpu/models/superres2x.onnx: twice the size, with denoising, of luma.

    pip install "jax[cpu]==0.10.2" optax==0.2.8 onnx==1.23.2 numpy==2.4.6
    python gpu/training/train.py

Everything is made here by chance from one seed: the pictures, their spoiling, the first weights.
One thread is used.
The shape of the net follows from what a processor does well: it works on blocks of two by two
samples, so that channels fill whole vector registers, and gives blocks of four by four. Beside it
runs one linear filter that begins as bicubic interpolation.
"""

import argparse
import os
import pathlib
import time

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import optax
from onnx import TensorProto, helper, numpy_helper

import pictures as make

WIDTHS = (32, 32)
LAYERS = len(WIDTHS) + 1
BORDER = 2 * LAYERS  # samples of the small picture that the layers eat on each side
BATCH, SIDE = 16, 48  # pictures a step, and their side before doubling
SIZE = 288  # side of the pictures they are cut from


def cubic_weights():
    """Bicubic interpolation (a = -0.5) from blocks of 2x2 to blocks of 4x4, as a 3x3 filter."""
    one = np.zeros((6, 4), np.float32)  # from samples -2..3 to samples 0..3 of the large picture
    for out in range(4):
        at = (out + 0.5) / 2 - 0.5
        for tap in range(-2, 4):
            one[tap + 2, out] = make._cubic(np.float64(at - tap))
    full = np.einsum("ya,xb->yxab", one, one).reshape(3, 2, 3, 2, 4, 4)
    return full.transpose(0, 2, 1, 3, 4, 5).reshape(3, 3, 4, 16)


def first_weights(rng):
    layers, width = [], 4
    for place, out in enumerate((*WIDTHS, 16)):
        scale = np.sqrt(2 / (9 * width)) * (0.1 if place == LAYERS - 1 else 1)
        weight = rng.standard_normal((3, 3, width, out)).astype(np.float32) * np.float32(scale)
        layers.append({"w": weight, "b": np.zeros(out, np.float32)})
        width = out
    return {"layers": layers, "skip": cubic_weights()}


def conv(x, w):
    return jax.lax.conv_general_dilated(
        x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def enlarge(params, x):
    """From (n, h + 2 BORDER, w + 2 BORDER) to (n, 2 h, 2 w)."""
    n, h, w = x.shape
    x = x.reshape(n, h // 2, 2, w // 2, 2).transpose(0, 1, 3, 2, 4).reshape(n, h // 2, w // 2, 4)
    # Centred, so that the first layer sees what differs from grey.
    y = x - 0.5
    for layer in params["layers"][:-1]:
        y = jax.nn.relu(conv(y, layer["w"]) + layer["b"])
    last = params["layers"][-1]
    inner = LAYERS - 1
    y = conv(y, last["w"]) + last["b"] + conv(x[:, inner:-inner, inner:-inner], params["skip"])
    _, h, w, _ = y.shape
    return y.reshape(n, h, w, 4, 4).transpose(0, 1, 3, 2, 4).reshape(n, h * 4, w * 4)


def loss_of(params, small, large):
    error = enlarge(params, small) - large
    return jnp.mean(jnp.sqrt(error * error + 0.03**2) - 0.03)


def batches(seed, count, steps):
    """Pairs of small spoilt pictures with their border, and what should become of them."""
    large = make.pictures(seed, count, SIZE)
    soft = np.stack([make.blur(p, 0.6) for p in large])
    smalls = [
        make.halve_box(large),
        make.halve(large, make.CUBIC),
        make.halve(large, make.LANCZOS),
        make.halve_box(soft),
    ]
    rng = np.random.default_rng(seed + 1)
    wide = SIDE + 2 * BORDER
    for _ in range(steps):
        xs, ys = [], []
        for _ in range(BATCH):
            which = rng.integers(count)
            small = smalls[rng.choice(4, p=[0.35, 0.35, 0.15, 0.15])][which]
            y, x = rng.integers(0, SIZE // 2 - wide + 1, 2)
            a = make.spoil(rng, small[y : y + wide, x : x + wide])
            y, x = 2 * (y + BORDER), 2 * (x + BORDER)
            b = large[which][y : y + 2 * SIDE, x : x + 2 * SIDE]
            if rng.random() < 0.5:
                a, b = a[::-1], b[::-1]
            if rng.random() < 0.5:
                a, b = a[:, ::-1], b[:, ::-1]
            if rng.random() < 0.5:
                a, b = a.T, b.T
            if rng.random() < 0.3:
                a, b = 1 - a, 1 - b
            xs.append(a)
            ys.append(b)
        yield np.stack(xs), np.stack(ys)


def export(params, path, note):
    """Writes the net as ONNX: luma (1, 1, h, w) to luma (1, 1, 2 h, 2 w), h and w even."""
    constants, nodes = [], []

    def constant(name, values):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def convolve(x, output, weight, bias):
        w = constant(output + "_w", np.asarray(weight, np.float32).transpose(3, 2, 0, 1))
        b = constant(output + "_b", np.asarray(bias, np.float32))
        return node("Conv", [x, w, b], output, kernel_shape=[3, 3])

    pads = constant("pads", np.array([0, 0, BORDER, BORDER] * 2, np.int64))
    x = node("Pad", ["luma", pads], "wide", mode="edge")
    x = node("SpaceToDepth", [x], "blocks", blocksize=2)
    y = x
    for place, layer in enumerate(params["layers"]):
        bias = np.asarray(layer["b"], np.float64)
        if place == 0:  # the centring of the input moves into the bias
            bias = bias - 0.5 * np.asarray(layer["w"], np.float64).sum((0, 1, 2))
        y = convolve(y, f"layer{place}", layer["w"], bias)
        if place < LAYERS - 1:
            y = node("Relu", [y], f"lit{place}")
    inner = LAYERS - 1
    bounds = [
        constant("from", np.array([inner, inner], np.int64)),
        constant("to", np.array([-inner, -inner], np.int64)),
        constant("axes", np.array([2, 3], np.int64)),
    ]
    core = node("Slice", [x, *bounds], "core")
    skip = convolve(core, "skip", params["skip"], np.zeros(16, np.float32))
    total = node("Add", [y, skip], "total")
    node("DepthToSpace", [total], "luma2x", blocksize=4)

    shape = lambda h, w: [1, 1, h, w]
    graph = helper.make_graph(
        nodes,
        "superres2x",
        [helper.make_tensor_value_info("luma", TensorProto.FLOAT, shape("height", "width"))],
        [helper.make_tensor_value_info("luma2x", TensorProto.FLOAT, shape("height2", "width2"))],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    model.producer_name = "millstream gpu/training/train.py"
    model.doc_string = note
    helper.set_model_props(model, {"millstream.multiple": "2"})
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def main():
    default = pathlib.Path(__file__).parent.parent / "models" / "superres2x.onnx"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--pictures", type=int, default=240)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--out", type=pathlib.Path, default=default)
    options = parser.parse_args()

    params = jax.tree.map(jnp.asarray, first_weights(np.random.default_rng(options.seed)))
    rate = optax.warmup_cosine_decay_schedule(1e-4, 2e-3, 200, options.steps, 1e-5)
    steps = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(rate))
    state = steps.init(params)

    @jax.jit
    def step(params, state, small, large):
        loss, slope = jax.value_and_grad(loss_of)(params, small, large)
        change, state = steps.update(slope, state)
        return optax.apply_updates(params, change), state, loss

    begun, sums = time.time(), []
    for place, (small, large) in enumerate(batches(options.seed, options.pictures, options.steps)):
        if place == 0:
            print(f"{options.pictures} pictures after {time.time() - begun:.0f} s", flush=True)
        params, state, loss = step(params, state, small, large)
        sums.append(float(loss))
        if (place + 1) % 500 == 0:
            print(f"step {place + 1}: loss {np.mean(sums[-500:]):.6f}, {time.time() - begun:.0f} s", flush=True)
    note = f"seed {options.seed}, {options.pictures} pictures, {options.steps} steps"
    export(params, options.out, note)
    print(f"wrote {options.out} ({options.out.stat().st_size} bytes)")


if __name__ == "__main__":
    main()

"""Write the trained encoder as the graph that ships: norms folded in, weights in int8 with a scale per channel.

    python -m benchmarks.images.formula.export FOLDER/encoder.pt

Writes ``formula.onnx`` (image FP32 [n, 3, h, w] in [-1, 1] -> maps at strides 2, 4, 8, 16) and its card
``formula.json`` beside the source of the backbone; says how far its pooled maps are from those of the network in
PyTorch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, helper
from torch import nn

from benchmarks.images.formula.network import BLOCKS, SIDE, Block, Down, Encoder
from benchmarks.images.formula.pictures import make_pictures
from modelworks.algorithms.graph import IR_VERSION, OPSET, Graph
from modelworks.compute.runtime import GraphSession

PLACE = Path(__file__).resolve().parents[3] / "src" / "modelworks" / "algorithms" / "backbones"


def write_convolution(graph: Graph, values: str, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> str:
    """Add a convolution with its norm folded in; its weights are int8 times a scale per output channel."""
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    weight = (convolution.weight * gain[:, None, None, None]).detach().numpy()
    bias = (norm.bias - norm.running_mean * gain).detach().numpy()
    scale = np.maximum(np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / 127, 1e-12).astype(np.float32)
    whole = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
    # Cast and product of constants: the runtime folds both when it loads the graph.
    floats = graph.op("Mul", graph.cast(graph.constant(whole), TensorProto.FLOAT), graph.constant(scale))
    return graph.op(
        "Conv", values, floats, graph.constant(bias.astype(np.float32)), kernel_shape=[3, 3], pads=[1, 1, 1, 1],
        strides=list(convolution.stride),
    )  # fmt: skip


def write_encoder(encoder: Encoder) -> bytes:
    """Return the encoder as a graph."""
    graph = Graph()
    values, maps = "image", []
    for stage in encoder.stages:
        for part in stage:
            if isinstance(part, Down):
                values = graph.op("Relu", write_convolution(graph, values, part.convolution, part.norm))
            else:
                assert isinstance(part, Block)
                inner = graph.op("Relu", write_convolution(graph, values, part.first, part.norm1))
                inner = write_convolution(graph, inner, part.second, part.norm2)
                values = graph.op("Relu", graph.op("Add", values, inner))
        maps.append(values)
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width, None, None])
        for name, width in zip(maps, encoder.widths, strict=True)
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])
    whole = helper.make_graph(graph._nodes, "formula", [image], outputs, graph._constants)
    model = helper.make_model(
        whole,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="modelworks",
    )
    return bytes(model.SerializeToString(deterministic=True))


def apart(encoder: Encoder, onnx: bytes) -> float:
    """Return the relative distance of the pooled maps to those of the network, over pictures that it never saw."""
    torch.manual_seed(123)
    image = make_pictures(64, SIDE, "cpu").float() / 127.5 - 1
    with torch.inference_mode():
        truth = torch.cat([item.mean((2, 3)) for item in encoder(image)], 1).numpy()
    found = GraphSession(onnx).run({"image": image.numpy()})
    pooled = np.concatenate([item.mean(axis=(2, 3)) for item in found.values()], axis=1)
    return float(np.linalg.norm(pooled - truth) / np.linalg.norm(truth - truth.mean(axis=0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path, default=PLACE)
    given = parser.parse_args()
    stored = torch.load(given.weights, map_location="cpu", weights_only=True)
    last, facts = stored["lines"][-1], stored["facts"]
    encoder = Encoder(facts["widths"])
    encoder.load_state_dict(
        {name: value.to(encoder.state_dict()[name].dtype) for name, value in stored["encoder"].items()}
    )
    encoder.eval()
    onnx = write_encoder(encoder)
    card = {
        "name": "images.formula",
        "sha256": hashlib.sha256(onnx).hexdigest(),
        "licence": "Apache-2.0",
        "pictures": "made by formulas alone (noise spectra, random programs, cells, iterated function systems, "
        "textured leaves); no photograph was used in training",
        "objective": last["objective"],
        "steps": last["step"],
        "views": 2 * facts["batch"] * last["step"],
        "seconds": last["seconds"],
        "blocks": list(BLOCKS),
        **facts,
        "command": f"python -m benchmarks.images.formula.train --work FOLDER --name encoder "
        f"--objectives {last['objective']} --steps {last['step']} --batch {facts['batch']} "
        f"--pool {facts['pool']} --seed {facts['seed']} --pictures {facts['drawn']} "
        f"--widths {','.join(str(width) for width in facts['widths'])}",
        "repeats": "to the same worth, not to the same bits: sums on a GPU are not taken in a fixed order",
        "weights": "int8 with one scale per output channel",
        "int8_distance": round(apart(encoder, onnx), 5),
        "sources": "Chen et al. (2020), SimCLR; Baradad et al. (2021), Learning to see by looking at noise; Baradad "
        "et al. (2022), Procedural image programs; Kataoka et al. (2020), Pre-training without natural images; Zhang "
        "et al. (2018), mixup",
    }
    (given.out / "formula.onnx").write_bytes(onnx)
    text = json.dumps(card, indent=2, sort_keys=True) + "\n"
    (given.out / "formula.json").write_text(text, encoding="utf-8")
    print(f'WEIGHTS_SHA256 = "{card["sha256"]}"  # belongs into formula.py')
    print(f"{len(onnx) / 1e6:.2f} MB, int8 distance {card['int8_distance']}")


if __name__ == "__main__":
    main()

"""Train the encoder that ships with Modelworks on pictures made by formulas; checkpoints after every pass.

python -m benchmarks.images.formula.train --work FOLDER --out src/modelworks/algorithms/backbones/formula.onnx
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn
from torch.nn import functional

from benchmarks.images.formula.pictures import SHAPES, TEXTURES, kinds_of, make_pictures

SIDE, CROP = 56, 48
SHARD = 2000
WIDTHS = (32, 48, 96, 160, 224)
BATCH, RATE, DECAY, SMOOTHING = 32, 2e-3, 0.02, 0.1

SIZES = (SHAPES, TEXTURES, 6, 6)
NAMES = ("shape", "texture", "shape_kind", "texture_kind")


class Block(nn.Module):
    """Convolution, batch norm, ReLU; with a skip where the shape allows it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        found = self.norm(self.convolution(values))
        return functional.relu(found + values if self.skip else found)


class Encoder(nn.Module):
    """Four stages at strides 2, 4, 8 and 16."""

    def __init__(self) -> None:
        super().__init__()
        stem, one, two, three, four = WIDTHS
        self.stages = nn.ModuleList(
            [
                nn.Sequential(Block(3, stem, 5, 2), Block(stem, one, 3, 1), Block(one, one, 3, 1)),
                nn.Sequential(Block(one, two, 3, 2), Block(two, two, 3, 1)),
                nn.Sequential(Block(two, three, 3, 2), Block(three, three, 3, 1)),
                nn.Sequential(Block(three, four, 3, 2)),
            ]
        )

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for stage in self.stages:
            pixels = stage(pixels)
            maps.append(pixels)
        return maps


class Trained(nn.Module):
    """The encoder with the heads it is trained by: which shape, which texture, and which kind of each."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.heads = nn.ModuleList(nn.Linear(sum(WIDTHS[1:]), size) for size in SIZES)

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        pooled = torch.cat([item.mean(dim=(2, 3)) for item in self.encoder(pixels)], 1)
        return [head(pooled) for head in self.heads]


def varied(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Crop, zoom, mirror, mix up and grey the channels of a batch ``uint8 [rows, side, side, 3]``."""
    size = int(rng.choice([36, 44, 48, 52, 56]))
    top, left = rng.integers(SIDE - size + 1, size=2)
    found = pixels[:, top : top + size, left : left + size].permute(0, 3, 1, 2).float() / 127.5 - 1
    if size != CROP:
        found = functional.interpolate(found, size=(CROP, CROP), mode="bilinear", antialias=True)
    if rng.random() < 0.5:
        found = found[:, rng.permutation(3)]
    if rng.random() < 0.2:
        found = found.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    gain = torch.from_numpy(rng.uniform(0.5, 1.2, (len(found), 1, 1, 1)).astype(np.float32))
    shift = torch.from_numpy(rng.normal(0, 0.15, (len(found), 1, 1, 1)).astype(np.float32))
    return (found * gain + shift).contiguous(memory_format=torch.channels_last)


def pictures(work: Path, count: int, seed: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Make the pictures, or read those that were made before the run was cut off."""
    parts = []
    for shard in range(count // SHARD):
        path = work / f"pictures-{seed}-{shard}.npz"
        if not path.is_file():
            images, shapes, textures = make_pictures(SHARD, SIDE, seed * 1000 + shard)
            np.savez(path.with_suffix(".part.npz"), images=images, shapes=shapes, textures=textures)
            path.with_suffix(".part.npz").rename(path)
        parts.append(np.load(path))
    images, shapes, textures = (
        np.concatenate([part[name] for part in parts]) for name in ("images", "shapes", "textures")
    )
    labels = [shapes, textures, *kinds_of(shapes, textures)]
    return torch.from_numpy(images), [torch.from_numpy(item) for item in labels]


def train(work: Path, count: int, passes: int, seed: int) -> tuple[Trained, dict[str, Any]]:
    """Train, or go on from the last checkpoint; returns the network and a record of the run."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    start = time.process_time()
    images, labels = pictures(work, count, seed)
    held, held_labels = pictures(work, SHARD, seed + 1)
    record: dict[str, Any] = {"picture_cpu_s": time.process_time() - start, "passes": []}
    network = Trained().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    steps = count // BATCH
    checkpoint = work / "checkpoint.pt"
    first = 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        record, first = json.loads(state["record"]), state["passes"]
    for number in range(first, passes):
        start = time.process_time()
        rng = np.random.default_rng([seed, number])
        network.train()
        for step, rows in enumerate(np.split(rng.permutation(count)[: steps * BATCH], steps)):
            done = (number * steps + step) / (passes * steps)
            rate = RATE * min(1.0, done * 20 + 0.02) * (0.5 + 0.5 * math.cos(math.pi * done))
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss = torch.zeros(())
            for found, truth in zip(network(varied(images[rows], rng)), labels, strict=True):
                loss = loss + functional.cross_entropy(found, truth[rows], label_smoothing=SMOOTHING)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        network.eval()
        with torch.no_grad():
            answers = network(varied(held, np.random.default_rng(0)))
        accuracy = {
            name: round(float((found.argmax(1) == truth).float().mean()), 4)
            for name, found, truth in zip(NAMES, answers, held_labels, strict=True)
        }
        record["passes"].append({"cpu_s": round(time.process_time() - start, 1), "accuracy": accuracy})
        print(number + 1, record["passes"][-1], flush=True)
        state = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
        torch.save({**state, "record": json.dumps(record), "passes": number + 1}, checkpoint)
    return network, record


def write(encoder: Encoder, out: Path) -> None:
    """Write the encoder as ONNX, batch norm folded in, weights in half precision: pixels in [-1, 1] to four maps."""
    nodes: list[Any] = []
    constants: list[Any] = []

    def stored(name: str, value: torch.Tensor) -> str:
        half = value.detach().numpy().astype(np.float16)
        constants.append(numpy_helper.from_array(half, f"{name}.half"))
        nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
        return name

    current, outputs = "image", []
    for number, stage in enumerate(encoder.stages):
        for index, block in enumerate(stage):
            name = f"stage{number}.{index}"
            scale = block.norm.weight / torch.sqrt(block.norm.running_var + block.norm.eps)
            weight = stored(f"{name}.weight", block.convolution.weight * scale[:, None, None, None])
            bias = stored(f"{name}.bias", block.norm.bias - block.norm.running_mean * scale)
            kernel, stride = block.convolution.kernel_size[0], block.convolution.stride[0]
            nodes.append(
                helper.make_node("Conv", [current, weight, bias], [f"{name}.conv"],
                                 pads=[kernel // 2] * 4, strides=[stride] * 2)
            )  # fmt: skip
            total = f"{name}.conv"
            if block.skip:
                nodes.append(helper.make_node("Add", [total, current], [f"{name}.sum"]))
                total = f"{name}.sum"
            nodes.append(helper.make_node("Relu", [total], [f"{name}.out"]))
            current = f"{name}.out"
        outputs.append(current)
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", width, f"h{index}", f"w{index}"])
        for index, (name, width) in enumerate(zip(outputs, WIDTHS[1:], strict=True))
    ]
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["rows", 3, "height", "width"])
    graph = helper.make_graph(nodes, "formula", [image], values, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    out.write_bytes(model.SerializeToString(deterministic=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for pictures and the checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument("--pictures", type=int, default=32_000)
    parser.add_argument("--passes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    network, record = train(given.work, given.pictures, given.passes, given.seed)
    write(network.eval().encoder, given.out)
    settings = {"pictures": given.pictures, "passes": given.passes, "seed": given.seed, "widths": WIDTHS}
    given.out.with_suffix(".json").write_text(json.dumps({"settings": settings, **record}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Pictures made by formulas alone: a shape of one class (fractal, contour, leaves) over a texture of another class.

Sources: Kataoka et al. (2020), Pre-training without natural images (fractals of iterated function systems);
Kataoka et al. (2022), Replacing labeled real-image datasets with auto-generated contours; Lee, Mumford & Huang (2001),
Occlusion models for natural images (dead leaves); Baradad et al. (2021), Learning to see by looking at noise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Rng = np.random.Generator
FRACTALS, CONTOURS, LEAVES = 64, 48, 16
SHAPES = FRACTALS + CONTOURS + LEAVES
TEXTURES = 96
_FAMILIES = 6


def make_pictures(count: int, side: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``uint8 [count, side, side, 3]`` pictures, their shape classes and their texture classes."""
    rng = np.random.default_rng([seed, 77])
    shapes = rng.integers(SHAPES, size=count)
    textures = rng.integers(TEXTURES, size=count)
    pictures = np.empty((count, side, side, 3), np.uint8)
    for index in range(count):
        pictures[index] = _picture(int(shapes[index]), int(textures[index]), side, rng)
    return pictures, shapes, textures


def kinds_of(shapes: np.ndarray, textures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the kinds that classes belong to: fractal, contour or one of four leaves; one of six textures."""
    leaf = 2 + (shapes - FRACTALS - CONTOURS) % 4
    return np.where(
        shapes < FRACTALS, 0, np.where(shapes < FRACTALS + CONTOURS, 1, leaf)
    ), textures % _FAMILIES


def _picture(shape: int, texture: int, side: int, rng: Rng) -> np.ndarray:
    ground = _coloured(_texture(texture, side, rng), rng)
    if shape >= FRACTALS + CONTOURS:
        over, mask = _leaves(shape - FRACTALS - CONTOURS, side, rng)
    else:
        field = _fractal(shape, side, rng) if shape < FRACTALS else _contour(shape - FRACTALS, side, rng)
        mask = np.clip(field * 1.5, 0, 1)
        over = _coloured(0.6 * field + 0.4 * _texture(int(rng.integers(TEXTURES)), side, rng), rng)
    light = 1 + rng.normal(0, 0.15) * np.linspace(-1, 1, side)[:, None, None]
    image = (ground * (1 - mask[..., None]) + over * mask[..., None]) * light
    image += rng.normal(0, rng.uniform(0, 0.04), image.shape)
    return np.asarray(np.clip(image * 255, 0, 255), np.uint8)


def _coloured(field: np.ndarray, rng: Rng) -> np.ndarray:
    """Map a field in [0, 1] to colours between two or three random ones; a quarter of them are grey."""
    stops = rng.uniform(0, 1, (3, 3))
    if rng.random() < 0.25:
        stops = np.repeat(stops[:, :1], 3, axis=1)
    low, middle, high = stops
    t = field[..., None]
    if rng.random() < 0.5:
        return np.asarray(low * (1 - t) + high * t)
    return np.asarray(np.where(t < 0.5, low + (middle - low) * 2 * t, middle + (high - middle) * (2 * t - 1)))


def _grid(side: int, rng: Rng, turn: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Return slightly turned, scaled and shifted coordinates in about [-1, 1]."""
    y, x = np.mgrid[:side, :side] / (side / 2) - 1
    angle, scale = rng.normal(0, turn), rng.uniform(0.75, 1.3)
    x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    return x * scale + rng.uniform(-0.3, 0.3), y * scale + rng.uniform(-0.3, 0.3)


def _texture(label: int, side: int, rng: Rng) -> np.ndarray:
    """Return a field in [0, 1] of one of six families; the label fixes its formula, ``rng`` the instance."""
    own = np.random.default_rng([label, 11])
    found = _TEXTURES[label % _FAMILIES](own, side, rng)
    low, high = found.min(), found.max()
    return np.asarray((found - low) / (high - low + 1e-6))


def _noise(own: Rng, side: int, rng: Rng) -> np.ndarray:
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    slope, angle, stretch = own.uniform(0.6, 2.6), own.uniform(0, np.pi), own.choice([1, 1, 2.5, 5])
    u = fx * np.cos(angle) + fy * np.sin(angle)
    v = (-fx * np.sin(angle) + fy * np.cos(angle)) * stretch
    radius = np.sqrt(u**2 + v**2) + 1 / side
    phase = np.exp(2j * np.pi * rng.random(radius.shape))
    found = np.fft.irfft2(radius**-slope * phase, s=(side, side))
    return np.asarray(np.abs(found) if own.random() < 0.3 else found)


def _waves(own: Rng, side: int, rng: Rng) -> np.ndarray:
    x, y = _grid(side, rng)
    found = np.zeros((side, side))
    for _ in range(own.integers(1, 4)):
        angle, frequency = own.uniform(0, np.pi), own.uniform(3, 16)
        found += np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) * 2 + rng.uniform(0, 6.3))
    return np.asarray(np.tanh(own.choice([0.8, 4]) * found))


def _shader(own: Rng, side: int, rng: Rng) -> np.ndarray:
    x, y = _grid(side, rng)
    functions: list[Callable[[np.ndarray], np.ndarray]] = [
        np.sin, np.cos, np.tanh, np.abs, lambda value: np.sin(value**2), lambda value: value - np.floor(value)
    ]  # fmt: skip
    for _ in range(own.integers(2, 5)):
        a, b, c, d = own.normal(0, 2.2, 4) * rng.normal(1, 0.05, 4)
        first = functions[own.integers(len(functions))]
        second = functions[own.integers(len(functions))]
        x, y = first(a * x + b * y), second(c * y + d * x)
    return np.asarray(x + own.uniform(-1, 1) * y)


def _cells(own: Rng, side: int, rng: Rng) -> np.ndarray:
    count, mode = int(own.integers(8, 60)), own.integers(3)
    points = rng.uniform(-0.1, 1.1, (count, 2)) * side
    stretch = own.choice([1, 1, 2.0])
    y, x = np.mgrid[:side, :side].astype(np.float32)
    far = np.sort(np.hypot(x[None] - points[:, :1, None], (y[None] - points[:, 1:, None]) * stretch), axis=0)[
        :2
    ]
    return np.asarray((far[0], far[1] - far[0], np.minimum(far[1] - far[0], 2.0))[mode])


def _tiles(own: Rng, side: int, rng: Rng) -> np.ndarray:
    x, y = _grid(side, rng, turn=0.3)
    scale, kind = own.uniform(2, 7), own.integers(4)
    column = np.floor(y * scale)
    u = x * scale + (own.choice([0, 0.5]) * column)
    fx, fy = u - np.floor(u) - 0.5, y * scale - column - 0.5
    size = own.uniform(0.2, 0.42)
    kinds = (
        np.hypot(fx, fy) < size,
        np.maximum(abs(fx), abs(fy)) < size,
        abs(fx) + abs(fy) < size * 1.3,
        (np.floor(u) + column) % 2,
    )
    return np.asarray(kinds[kind], np.float64) + 0.15 * _noise(own, side, rng)


def _grown(own: Rng, side: int, rng: Rng) -> np.ndarray:
    """Filter noise to a narrow band and sharpen it: spots, stripes and labyrinths."""
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    radius = np.hypot(fx * own.choice([1, 1, 2]), fy)
    band = np.exp(-(((radius - own.uniform(0.05, 0.2)) / 0.02) ** 2))
    found = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(side, side))) * band, s=(side, side))
    return np.asarray(np.tanh((found / (found.std() + 1e-9) - own.uniform(-0.8, 0.8)) * 3))


_TEXTURES = (_noise, _waves, _shader, _cells, _tiles, _grown)


def _fractal(label: int, side: int, rng: Rng) -> np.ndarray:
    """Return the density of an iterated function system; the class fixes its maps, which are shaken a little."""
    own = np.random.default_rng([label, 23])
    count = int(own.integers(2, 6))
    maps = np.empty((count, 2, 2))
    for index in range(count):
        left, right = own.uniform(-np.pi, np.pi, 2)
        stretch = np.diag(own.uniform(0.3, 0.85, 2) * own.choice([-1, 1], 2))
        maps[index] = _turned(left) @ stretch @ _turned(right)
    shift = own.uniform(-1, 1, (count, 2))
    maps, shift = maps * rng.normal(1, 0.06, maps.shape), shift + rng.normal(0, 0.06, shift.shape)
    weight = np.abs(np.linalg.det(maps)) + 0.05
    walkers = 256
    chosen = rng.choice(count, size=(40, walkers), p=weight / weight.sum())
    points = np.zeros((walkers, 2))
    seen = []
    for step, index in enumerate(chosen):
        points = np.einsum("nij,nj->ni", maps[index], points) + shift[index]
        if step >= 12:
            seen.append(points)
    cloud = np.concatenate(seen)
    cloud = (cloud - cloud.min(axis=0)) / (np.ptp(cloud, axis=0).max() + 1e-6)
    cloud = (cloud - np.ptp(cloud, axis=0) / 2) @ _turned(rng.normal(0, 0.2)).T
    cloud = cloud * rng.uniform(0.6, 1.1) + rng.uniform(0.35, 0.65, 2)
    cells = (cloud * side).astype(np.int64)
    inside = ((cells >= 0) & (cells < side)).all(axis=1)
    density = np.bincount(cells[inside] @ np.array([side, 1]), minlength=side * side).reshape(side, side)
    return np.asarray(np.minimum(np.sqrt(density) / 2.0, 1.0))


def _turned(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _contour(label: int, side: int, rng: Rng) -> np.ndarray:
    """Return nested closed outlines around a centre; the class fixes the corners, their sharpness and the nesting."""
    own = np.random.default_rng([label, 31])
    corners, sharp, rings = int(own.integers(2, 9)), own.uniform(0.08, 0.45), int(own.integers(0, 5))
    wobble, filled, ratio = own.uniform(0, 0.25), own.random() < 0.5, own.uniform(0.55, 1)
    x, y = _grid(side, rng, turn=0.5)
    angle, radius = np.arctan2(y, x * ratio), np.hypot(x * ratio, y)
    outline = 1 + sharp * np.cos(corners * angle)
    for order in (2, 3, 5):
        outline += wobble / order * np.cos(order * angle + own.uniform(0, 6.3) + rng.normal(0, 0.3))
    level = radius / (outline * rng.uniform(0.4, 0.8))
    body = 1 / (1 + np.exp((level - 1) * 25))
    if rings:
        lines = 0.5 + 0.5 * np.cos(2 * np.pi * level * rings)
        return np.asarray(body * (0.4 + 0.6 * lines) if filled else body * (lines > 0.5))
    return np.asarray(body)


def _leaves(label: int, side: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Return overlapping shapes with sizes of a power law, and where they lie."""
    own = np.random.default_rng([label, 43])
    kind, power, largest, many = (
        label % 4,
        own.uniform(1.2, 3),
        own.uniform(0.2, 0.5),
        int(own.integers(10, 60)),
    )
    y, x = np.mgrid[:side, :side] / side
    image, mask = np.zeros((side, side, 3)), np.zeros((side, side))
    base, spread = rng.uniform(0, 1, 3), rng.uniform(0.05, 0.5)
    for _ in range(many):
        size = largest * (1 + rng.random() * (10**power - 1)) ** (-1 / power)
        cx, cy, angle = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0, np.pi)
        u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        v = -(x - cx) * np.sin(angle) + (y - cy) * np.cos(angle)
        if kind == 0:
            inside = u**2 + v**2 < size**2
        elif kind == 1:
            inside = np.maximum(abs(u), abs(v)) < size
        elif kind == 2:
            inside = (v > -size / 2) & (abs(u) * 1.7 + v < size)
        else:
            inside = (u / 2.2) ** 2 + v**2 < (size / 1.5) ** 2
        shade = 1 + rng.normal(0, 0.3) * u / (size + 1e-6)
        image[inside] = (base + rng.normal(0, spread, 3))[None] * shade[inside][:, None]
        mask[inside] = 1
    return np.clip(image, 0, 1), mask

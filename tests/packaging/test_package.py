"""Opening a package: what was signed opens; one changed byte, name or key and it does not (F13, S9, S10)."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from modelworks.core.digest import canonical_json
from modelworks.core.errors import TrustError
from modelworks.packaging import Package, SigningKey, TrustPolicy, open_package, pack
from modelworks.packaging import package as opening
from modelworks.packaging.manifest import LISTED_FILES, NEEDED, parse_manifest, strict_json

CopyPackage = Callable[[], Path]


def test_a_built_package_opens_and_replays(package: Package, key: SigningKey) -> None:
    replayed = package.verify()
    assert replayed.rows == 6
    assert replayed.graph["operators"]["ai.onnx.ml.LabelEncoder"] == 2
    assert package.signed_by == key.id
    assert set(package.files) == set(NEEDED)


def test_200_random_byte_flips_are_refused(
    package_folder: Path, copy_package: CopyPackage, trust: TrustPolicy
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    copy = copy_package()
    names = sorted(NEEDED)
    for index in range(200):
        name = names[index % len(names)] if index < 5 * len(names) else chance.choice(names)
        good = (package_folder / name).read_bytes()
        bad = bytearray(good)
        place = chance.randrange(len(bad))
        bad[place] ^= 1 << chance.randrange(8)
        (copy / name).write_bytes(bad)
        with pytest.raises(TrustError) as refused:
            open_package(copy, trust)
        message = str(refused.value)
        assert name in message or "manifest.json" in message, f"seed {seed}: {message}"
        assert refused.value.hint, f"seed {seed}"
        (copy / name).write_bytes(good)
    assert open_package(copy, trust).signed_by, f"seed {seed}"


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_a_missing_file_is_named(copy_package: CopyPackage, trust: TrustPolicy, name: str) -> None:
    copy = copy_package()
    (copy / name).unlink()
    with pytest.raises(TrustError, match=f"{name} is missing"):
        open_package(copy, trust)


@pytest.mark.parametrize("name", ["evil.py", "model.onnx.data", ".hidden", "MODEL.ONNX", "weights.bin"])
def test_an_extra_file_is_refused(copy_package: CopyPackage, trust: TrustPolicy, name: str) -> None:
    copy = copy_package()
    (copy / name).write_bytes(b"x")
    with pytest.raises(TrustError, match="is not a file of a package"):
        open_package(copy, trust)


def test_an_extra_folder_is_refused(copy_package: CopyPackage, trust: TrustPolicy) -> None:
    copy = copy_package()
    (copy / "more").mkdir()
    with pytest.raises(TrustError, match="is not a file of a package"):
        open_package(copy, trust)


@pytest.mark.parametrize(("one", "other"), [("card.md", "report.html"), ("examples.json", "profile.json")])
def test_swapped_files_are_refused(
    copy_package: CopyPackage, trust: TrustPolicy, one: str, other: str
) -> None:
    copy = copy_package()
    first, second = (copy / one).read_bytes(), (copy / other).read_bytes()
    (copy / one).write_bytes(second)
    (copy / other).write_bytes(first)
    with pytest.raises(TrustError, match=f"{one}|{other}"):
        open_package(copy, trust)


def test_a_manifest_signed_by_somebody_else_is_refused(copy_package: CopyPackage, trust: TrustPolicy) -> None:
    copy = copy_package()
    stranger = SigningKey.from_seed(bytes(32))
    (copy / "signature.json").write_bytes(stranger.sign((copy / "manifest.json").read_bytes()))
    with pytest.raises(TrustError, match="not trusted here") as refused:
        open_package(copy, trust)
    assert "mw package trust" in str(refused.value)
    assert open_package(copy, TrustPolicy(keys=trust.keys, require_signed=False)).signed_by == ""


def test_a_strangers_signature_under_a_trusted_name_is_refused(
    copy_package: CopyPackage, trust: TrustPolicy, key: SigningKey
) -> None:
    copy = copy_package()
    stranger = SigningKey.from_seed(bytes(32))
    forged = stranger.sign((copy / "manifest.json").read_bytes()).replace(
        stranger.id.encode(), key.id.encode()
    )
    (copy / "signature.json").write_bytes(forged)
    for policy in (trust, TrustPolicy(keys=trust.keys, require_signed=False)):
        with pytest.raises(TrustError, match="does not fit"):
            open_package(copy, policy)


def test_the_signature_of_another_package_is_refused(
    copy_package: CopyPackage, trust: TrustPolicy, key: SigningKey
) -> None:
    copy = copy_package()
    (copy / "signature.json").write_bytes(key.sign(b"another manifest"))
    with pytest.raises(TrustError, match="does not fit"):
        open_package(copy, trust)


def test_nothing_is_parsed_before_the_signature_holds(
    copy_package: CopyPackage, trust: TrustPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_package()
    (copy / "manifest.json").write_bytes(b"[" * 100_000)
    monkeypatch.setattr(opening, "parse_manifest", lambda *_: pytest.fail("parsed before it was verified"))
    with pytest.raises(TrustError, match="does not fit"):
        open_package(copy, trust)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_links_are_refused(copy_package: CopyPackage, trust: TrustPolicy, tmp_path: Path, name: str) -> None:
    soft, hard = copy_package(), copy_package()
    outside = tmp_path / "outside"
    outside.write_bytes((soft / name).read_bytes())
    (soft / name).unlink()
    (soft / name).symlink_to(outside)
    with pytest.raises(TrustError, match="symbolic link"):
        open_package(soft, trust)
    (hard / name).unlink()
    os.link(outside, hard / name)
    with pytest.raises(TrustError, match="hard links"):
        open_package(hard, trust)


def test_what_is_no_file_is_refused_without_waiting(copy_package: CopyPackage, trust: TrustPolicy) -> None:
    copy = copy_package()
    (copy / "model.onnx").unlink()
    os.mkfifo(copy / "model.onnx")
    with pytest.raises(TrustError, match="not a regular file"):
        open_package(copy, trust)


def test_a_file_too_large_is_refused_unread(copy_package: CopyPackage, trust: TrustPolicy) -> None:
    copy = copy_package()
    os.truncate(copy / "model.onnx", 2**40)
    with pytest.raises(TrustError, match=r"model\.onnx has 1,099,511,627,776 bytes"):
        open_package(copy, trust)


def test_the_checked_bytes_are_the_used_bytes(
    copy_package: CopyPackage, trust: TrustPolicy, package: Package
) -> None:
    copy = copy_package()
    opened = open_package(copy, trust)
    (copy / "model.onnx").write_bytes(b"replaced after the check")
    (copy / "examples.json").write_bytes(b"{}")
    assert opened.onnx == package.onnx
    assert opened.verify().rows == 6


def test_the_path_of_nothing_is_explained(tmp_path: Path, trust: TrustPolicy) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("hello")
    for path in (tmp_path / "absent", tmp_path / "empty", tmp_path / "text", Path("/dev/zero")):
        with pytest.raises(TrustError):
            open_package(path, trust)


def test_a_packed_package_is_the_same_package(package: Package, trust: TrustPolicy, tmp_path: Path) -> None:
    path = pack(package, tmp_path / "churn.mwpkg")
    assert open_package(path, trust).files == package.files
    data = bytearray(path.read_bytes())
    chance = random.Random(7)
    for _ in range(200):
        place = chance.randrange(len(data))
        data[place] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            opened = open_package(path, trust)
        except TrustError:
            pass
        else:
            assert opened.files == package.files, f"byte {place} changed what was read"
        data[place] = pack_bytes(package)[place]


def pack_bytes(package: Package) -> bytes:
    from modelworks.packaging.archive import write_archive

    return write_archive(package.files)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"format_version": 2},
        {"files": {}},
        {"files": {"model.onnx": {"sha256": "00", "size": 1}}},
        {"metrics": {}},
        {"task": []},
        {"signature": {"inputs": []}},
        {"name": 7},
    ],
)
def test_a_signed_but_malformed_manifest_is_refused(
    copy_package: CopyPackage, trust: TrustPolicy, key: SigningKey, change: dict[str, object]
) -> None:
    copy = copy_package()
    value = strict_json((copy / "manifest.json").read_bytes(), "manifest.json")
    changed = canonical_json({**value, **change})
    (copy / "manifest.json").write_bytes(changed)
    (copy / "signature.json").write_bytes(key.sign(changed))
    with pytest.raises(TrustError) as refused:
        open_package(copy, trust)
    assert refused.value.where == "manifest.json"


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b"[" * 33 + b"]" * 33,
        b'{"a":1e999}',
        b"\xff\xfe",
        b'{"a":',
        b"",
        b'{"n":' + b"9" * 6000 + b"}",
    ],
)
def test_json_that_two_readers_would_read_differently_is_refused(text: bytes) -> None:
    with pytest.raises(TrustError, match="not valid JSON"):
        strict_json(text, "profile.json")


def test_brackets_in_texts_are_not_depth() -> None:
    assert strict_json(b'{"a":"' + b"[" * 1000 + b'\\"["}', "x")["a"].startswith("[[")


def test_the_manifest_survives_its_own_bytes(package: Package) -> None:
    data = package.manifest.to_bytes()
    assert data == package.files["manifest.json"]
    assert parse_manifest(data, package.digest) == package.manifest
    assert set(package.manifest.files) == set(LISTED_FILES)

"""An opened package: every byte checked against the manifest, the manifest against a trusted key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelworks.core.digest import digest_bytes
from modelworks.core.errors import TrustError
from modelworks.core.signature import TOKENIZER, Signature
from modelworks.packaging.archive import read_archive
from modelworks.packaging.keys import trusted_keys, verify_signature
from modelworks.packaging.manifest import (
    EXAMPLES,
    MANIFEST,
    MODEL,
    PROFILE,
    SIGNATURE,
    FileEntry,
    Manifest,
    parse_manifest,
    strict_json,
)
from modelworks.packaging.reading import check_names, check_sizes, read_folder
from modelworks.packaging.replay import Replayed, ReplayLimits, replay


@dataclass(frozen=True, kw_only=True)
class TrustPolicy:
    """Whose packages are opened.

    Attributes:
        keys: Key id -> 32 public bytes of the trusted makers.
        require_signed: ``False`` also opens packages of unknown makers; their digests are still checked.
    """

    keys: Mapping[str, bytes] = field(default_factory=dict)
    require_signed: bool = True

    @staticmethod
    def of_folder(folder: Path, *, require_signed: bool = True) -> TrustPolicy:
        """Trust the public keys kept in ``folder``."""
        return TrustPolicy(keys=trusted_keys(folder), require_signed=require_signed)


@dataclass(frozen=True, kw_only=True, repr=False)
class Package:
    """A package whose digests and signature held when it was read.

    Attributes:
        manifest: What it says about itself.
        files: File name -> the very bytes that were checked.
        signed_by: Id of the trusted key that signed it; empty if an unknown maker was let in.
        public_key: That key.
    """

    manifest: Manifest
    files: Mapping[str, bytes]
    signed_by: str
    public_key: bytes = b""

    def __repr__(self) -> str:
        return f"<Package {self.manifest.name} {self.digest[:12]} signed by {self.signed_by[:12] or 'nobody known'}>"

    @property
    def digest(self) -> str:
        """Identity of the package: SHA-256 of its manifest."""
        return self.manifest.digest

    @property
    def signature(self) -> Signature:
        return self.manifest.signature

    @property
    def onnx(self) -> bytes:
        """Bytes of the graph; give them to ONNX Runtime as bytes, never as a path."""
        return self.files[MODEL]

    @property
    def examples(self) -> dict[str, Any]:
        """The golden examples: ``rows``, ``expected``, ``tolerance``."""
        return parse_examples(self.files[EXAMPLES])

    @property
    def profile(self) -> dict[str, Any]:
        """Training-data profile and drift thresholds, for the monitor."""
        return _object(self.files[PROFILE], PROFILE)

    def verify(self, limits: ReplayLimits | None = None) -> Replayed:
        """Inspect the graph and replay the golden examples in a limited child process.

        Raises:
            TrustError: The graph is not allowed, the child crashed or hung, or an answer differs.
        """
        return replay(self.onnx, self.signature, self.examples, limits or ReplayLimits())


def open_package(path: Path, trust: TrustPolicy) -> Package:
    """Read a package folder or ``.mwpkg`` file and check every byte before any of it is parsed.

    The order: names, sizes and file types; signature over the manifest's bytes; manifest; digest and size
    of every file. Each file is read once and the bytes that were checked are the ones in the result.

    Raises:
        TrustError: Anything at all is not as it was signed.
    """
    return verify_files(_read(path), trust)


def read_again(
    path: Path, trust: TrustPolicy, digest: str, listed: Mapping[str, FileEntry]
) -> Mapping[str, bytes]:
    """Read a package that was opened before and check every byte again; its manifest is not parsed again.

    Args:
        path: The package.
        trust: Whose packages are accepted now.
        digest: Identity of the package, which is the SHA-256 of its manifest.
        listed: What that manifest lists.

    Returns:
        File name -> the very bytes that were checked.

    Raises:
        TrustError: Anything at all is not as it was signed, or it is another package.
    """
    files = _read(path)
    _signer(files, trust)
    found = digest_bytes(files[MANIFEST])
    if found != digest:
        raise TrustError(
            f"This is another package than was opened before ({found[:12]} instead of {digest[:12]}).",
            code="MW3128",
            where=str(path),
        )
    _check_listed(files, listed)
    return files


def _read(path: Path) -> Mapping[str, bytes]:
    if path.is_dir():
        return read_folder(path)
    files = read_archive(path)
    check_names(list(files), str(path))
    check_sizes(files)
    return files


def verify_files(files: Mapping[str, bytes], trust: TrustPolicy) -> Package:
    """Check the bytes of a package's files; see ``open_package``."""
    signed_by = _signer(files, trust)
    manifest = parse_manifest(files[MANIFEST], digest_bytes(files[MANIFEST]))
    _check_listed(files, manifest.files)
    manifest = replace(manifest, signature=manifest.signature.with_tokenizer(files.get(TOKENIZER)))
    return Package(
        manifest=manifest, files=dict(files), signed_by=signed_by, public_key=trust.keys.get(signed_by, b"")
    )


def _check_listed(files: Mapping[str, bytes], listed: Mapping[str, FileEntry]) -> None:
    """Raise unless the files are those that the manifest lists, byte for byte."""
    if set(files) != {*listed, MANIFEST, SIGNATURE}:
        raise TrustError(
            f"The package holds {sorted(set(files) ^ {*listed, MANIFEST, SIGNATURE})!r:.200} more or fewer "
            f"than {MANIFEST} lists.",
            code="MW3102",
            where=MANIFEST,
            hint="fetch the package again from where it was made",
        )
    for name, entry in listed.items():
        data = files[name]
        if len(data) != entry.size or digest_bytes(data) != entry.sha256:
            raise TrustError(
                f"{name} is not the file that was signed: {len(data):,} bytes with another SHA-256 "
                f"than the {entry.size:,} bytes in {MANIFEST}.",
                code="MW3105",
                where=name,
                hint="fetch the package again from where it was made",
            )


def _signer(files: Mapping[str, bytes], trust: TrustPolicy) -> str:
    try:
        return verify_signature(files[MANIFEST], files[SIGNATURE], trust.keys)
    except TrustError as error:
        if error.error_code == "MW3107" and not trust.require_signed:
            return ""
        raise


def parse_examples(data: bytes) -> dict[str, Any]:
    """Return what ``examples.json`` holds."""
    return _object(data, EXAMPLES)


def _object(data: bytes, name: str) -> dict[str, Any]:
    value = strict_json(data, name)
    if not isinstance(value, dict):
        raise TrustError(f"{name} is not a JSON object.", code="MW3115", where=name)
    return value

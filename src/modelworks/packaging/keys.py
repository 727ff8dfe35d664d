"""Signing keys: ed25519 key pairs in a folder, made on first use, readable by their owner only."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.digest import canonical_json, digest_bytes
from modelworks.core.errors import StorageError, TrustError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ALGORITHM = "ed25519"
KEY_FILE = "signing.key"
_TRUSTED = "trusted"


def key_id(public: bytes) -> str:
    """Return the name of a public key: the first 32 hex digits of its SHA-256."""
    return digest_bytes(public)[:32]


@dataclass(frozen=True)
class SigningKey:
    """A private key that signs manifests. Its bytes are never printed."""

    private: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> bytes:
        """The 32 raw bytes of the public key."""
        return self.private.public_key().public_bytes_raw()

    @property
    def id(self) -> str:
        return key_id(self.public)

    def sign(self, manifest: bytes) -> bytes:
        """Return the bytes of ``signature.json`` for a manifest's bytes."""
        data = {
            "algorithm": ALGORITHM,
            "key_id": self.id,
            "manifest_sha256": digest_bytes(manifest),
            "signature": base64.b64encode(self.private.sign(manifest)).decode(),
        }
        return canonical_json(data) + b"\n"

    @staticmethod
    def from_seed(seed: bytes) -> SigningKey:
        """Return the key of 32 secret bytes (RFC 8032)."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return SigningKey(Ed25519PrivateKey.from_private_bytes(seed))

    @staticmethod
    def load_or_create(folder: Path) -> SigningKey:
        """Return the key of ``folder``; the first call makes it (file mode 0600) and trusts it.

        Raises:
            TrustError: Others can read the key file, or it is not a key.
            StorageError: The folder cannot be written.
        """
        path = folder / KEY_FILE
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                _create(path)
            key = SigningKey.from_seed(_read_secret(path))
            trust_key(folder, key.public)
        except OSError as error:
            raise StorageError(
                f"The signing key cannot be read or made: {error.strerror}.", where=str(path)
            ) from error
        return key


def trust_key(folder: Path, public: bytes) -> str:
    """Add a public key to those ``folder`` trusts; returns its id."""
    name = key_id(public)
    trusted = folder / _TRUSTED
    trusted.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = trusted / f"{name}.pub"
    if not path.exists():
        _publish(path, base64.b64encode(public) + b"\n", 0o644)
    return name


def trust_key_file(folder: Path, path: Path) -> str:
    """Trust the public key in a ``.pub`` file of a maker; returns its id.

    Raises:
        TrustError: The file does not hold a public key.
    """
    try:
        public = base64.b64decode(path.read_bytes()[:200].strip(), validate=True)
    except (OSError, ValueError):
        public = b""
    if len(public) != 32:
        raise TrustError("This file does not hold a public key.", code="MW3124", where=str(path))
    return trust_key(folder, public)


def trusted_keys(folder: Path) -> dict[str, bytes]:
    """Return key id -> 32 public bytes of every key in ``folder``; delete a ``.pub`` file to revoke it.

    Raises:
        TrustError: A file is not a public key, or its name is not its id.
    """
    found = {}
    for path in sorted((folder / _TRUSTED).glob("*.pub")):
        try:
            public = base64.b64decode(path.read_bytes().strip(), validate=True)
        except ValueError:
            public = b""
        if len(public) != 32 or key_id(public) != path.stem:
            raise TrustError(
                f"The trusted key file {path.name} does not hold the key it is named after.",
                code="MW3121",
                where=str(path),
                hint=f"remove {path.name}",
            )
        found[path.stem] = public
    return found


def verify_signature(manifest: bytes, signature: bytes, keys: Mapping[str, bytes]) -> str:
    """Check ``signature.json`` against the manifest's bytes; returns the id of the key that signed.

    Raises:
        TrustError: The signature is malformed, wrong, or by a key that is not trusted.
    """
    data = _parse_signature(signature)
    public = keys.get(data["key_id"])
    if public is None:
        raise TrustError(
            f"signature.json: the package is signed by the key {data['key_id']}, which is not trusted here.",
            code="MW3107",
            where="signature.json",
            hint=f"if you trust its maker, ask for the public key and run: mw package trust {data['key_id']}.pub",
        )
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        if data["manifest_sha256"] != digest_bytes(manifest):
            raise InvalidSignature
        Ed25519PublicKey.from_public_bytes(public).verify(data["signature"], manifest)
    except (InvalidSignature, ValueError):
        raise TrustError(
            "signature.json does not fit manifest.json: one of the two was changed after signing.",
            code="MW3106",
            where="manifest.json",
            hint="fetch the package again from where it was made",
        ) from None
    return str(data["key_id"])


def _parse_signature(signature: bytes) -> dict[str, Any]:
    try:
        data = json.loads(signature)
        parsed: dict[str, Any] = {
            "key_id": str(data["key_id"]),
            "signature": base64.b64decode(data["signature"], validate=True),
            "manifest_sha256": str(data["manifest_sha256"]),
        }
        # Base64 has spare bits at its end; only the one text that encoding gives is a signature.
        canonical = base64.b64encode(parsed["signature"]).decode() == data["signature"]
        exact = set(data) == {"algorithm", "key_id", "manifest_sha256", "signature"}
        if (
            data["algorithm"] != ALGORITHM
            or not (exact and canonical)
            or canonical_json(data) + b"\n" != signature
        ):
            raise ValueError("not canonical")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise TrustError(
            "signature.json is not a signature of a package.",
            code="MW3108",
            where="signature.json",
            hint="fetch the package again from where it was made",
        ) from None
    return parsed


def _create(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    _publish(path, base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()) + b"\n", 0o600)


def _publish(path: Path, data: bytes, mode: int) -> None:
    """Write a file that appears whole or not at all; the first of two writers wins."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        temporary.unlink()


def _read_secret(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if os.fstat(descriptor).st_mode & 0o077:
            raise TrustError(
                "Other users of this machine can read the signing key.",
                code="MW3122",
                where=str(path),
                hint=f"chmod 600 {path}",
            )
        try:
            seed = base64.b64decode(stream.read(200).strip(), validate=True)
        except ValueError:
            seed = b""
    if len(seed) != 32:
        raise TrustError("The signing key file does not hold a key.", code="MW3123", where=str(path))
    return seed

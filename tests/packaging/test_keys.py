"""Signing keys: made once, kept private, trusted by name, revoked by deleting a file (S4, S21)."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from modelworks.core.errors import TrustError
from modelworks.packaging import SigningKey, TrustPolicy, trust_key_file, trusted_keys
from modelworks.packaging.keys import KEY_FILE, verify_signature


def test_first_use_makes_a_private_key_and_trusts_it(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    key = SigningKey.load_or_create(keys)
    assert stat.S_IMODE((keys / KEY_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert SigningKey.load_or_create(keys).public == key.public
    assert trusted_keys(keys) == {key.id: key.public}
    assert [path.name for path in keys.iterdir() if path.name.startswith(".")] == []


def test_two_installations_have_different_keys(tmp_path: Path) -> None:
    assert SigningKey.load_or_create(tmp_path / "a").id != SigningKey.load_or_create(tmp_path / "b").id


def test_processes_that_start_together_end_with_one_key(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from modelworks.packaging import SigningKey;"
        "print(SigningKey.load_or_create(Path(sys.argv[1])).id)"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "keys")], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    answers = {process.communicate(timeout=60)[0].strip() for process in running}
    assert len(answers) == 1
    assert set(trusted_keys(tmp_path / "keys")) == answers


def test_a_key_others_can_read_is_refused(tmp_path: Path) -> None:
    SigningKey.load_or_create(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o644)
    with pytest.raises(TrustError, match="can read the signing key") as refused:
        SigningKey.load_or_create(tmp_path)
    assert "chmod 600" in str(refused.value)


def test_a_key_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    SigningKey.load_or_create(tmp_path)
    (tmp_path / KEY_FILE).write_text("hello")
    with pytest.raises(TrustError, match="does not hold a key"):
        SigningKey.load_or_create(tmp_path)


def test_a_key_is_never_shown() -> None:
    key = SigningKey.from_seed(bytes(range(32)))
    assert "private" not in repr(key) and "0001" not in repr(key)


def test_a_makers_key_is_trusted_and_revoked(tmp_path: Path) -> None:
    maker = SigningKey.load_or_create(tmp_path / "maker")
    public = next((tmp_path / "maker" / "trusted").glob("*.pub"))
    ours = tmp_path / "ours"
    assert trust_key_file(ours, public) == maker.id
    assert TrustPolicy.of_folder(ours).keys == {maker.id: maker.public}
    (ours / "trusted" / public.name).unlink()
    assert TrustPolicy.of_folder(ours).keys == {}


def test_a_file_that_is_no_public_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.pub"
    path.write_text("ssh-ed25519 AAAA")
    with pytest.raises(TrustError, match="public key"):
        trust_key_file(tmp_path, path)


def test_a_key_under_another_name_is_refused(tmp_path: Path) -> None:
    key = SigningKey.load_or_create(tmp_path)
    path = tmp_path / "trusted" / f"{key.id}.pub"
    path.rename(path.with_name("0" * 32 + ".pub"))
    with pytest.raises(TrustError, match="named after"):
        trusted_keys(tmp_path)


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"algorithm":"none","key_id":"","manifest_sha256":"","signature":""}\n',
        b"[" * 4000,
    ],
)
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    with pytest.raises(TrustError, match="not a signature"):
        verify_signature(b"manifest", signature, {})


def test_a_signature_in_another_spelling_is_refused() -> None:
    key = SigningKey.from_seed(bytes(32))
    good = key.sign(b"manifest")
    assert verify_signature(b"manifest", good, {key.id: key.public}) == key.id
    for other in (good.replace(b'","', b'", "'), good + b"\n", good.strip(), good.replace(b"==", b"=")):
        with pytest.raises(TrustError):
            verify_signature(b"manifest", other, {key.id: key.public})

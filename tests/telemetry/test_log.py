"""Logs are JSON lines and hold no secret."""

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelworks.telemetry.log import REDACTED, JsonFormatter, log_to, redact, redact_data

SECRETS = [
    ("postgresql://anna:hunter2@db/x", "hunter2"),
    ("s3 says https://b.example/k?X-Amz-Signature=abcdef123456&x=1", "abcdef123456"),
    ("Authorization: Bearer abcDEF.123-xyz", "abcDEF.123-xyz"),
    ("password = 'hunter2'", "hunter2"),
    ("api_key=0123456789abcdef", "0123456789abcdef"),
    ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI"),
    ("id AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
    ("-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----", "MC4CAQ"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_secrets_in_texts_are_taken_out(text: str, secret: str) -> None:
    assert secret not in redact(text)
    assert REDACTED in redact(text)


@pytest.mark.parametrize(
    "text", ["", "column 'token_count' has 3 values", "https://example.org/data.csv", "a@b"]
)
def test_plain_texts_stay(text: str) -> None:
    assert redact(text) == text


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(PLAIN, st.sampled_from(["password", "apiKey", "api_key", "AWS_SECRET", "Authorization", "auth_token"]))
def test_values_under_secret_names_never_stay(value: object, name: str) -> None:
    data = redact_data({"outer": [{name: "S3CRET-VALUE", "other": value}]})
    assert "S3CRET-VALUE" not in json.dumps(data)


def test_a_log_line_is_json_without_secrets(tmp_path: Path) -> None:
    handler = log_to(tmp_path / "log.jsonl")
    logger = logging.getLogger("modelworks.test")
    try:
        logger.info("opened %s", "postgresql://anna:hunter2@db/x", extra={"run": "r1", "password": "hunter2"})
        try:
            raise ValueError("token=hunter2hunter2")
        except ValueError:
            logger.exception("failed")
    finally:
        logging.getLogger("modelworks").removeHandler(handler)
        handler.close()
    text = (tmp_path / "log.jsonl").read_text()
    first, second = (json.loads(line) for line in text.splitlines())
    assert "hunter2" not in text
    assert (first["run"], first["password"], first["level"]) == ("r1", REDACTED, "info")
    assert first["at"].endswith("Z")
    assert "ValueError" in second["trace"]


def test_what_is_no_json_is_shown_and_not_raised() -> None:
    record = logging.makeLogRecord({"msg": "x", "levelname": "INFO", "thing": object()})
    assert "object" in json.loads(JsonFormatter().format(record))["thing"]

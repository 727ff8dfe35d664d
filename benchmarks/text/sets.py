"""The public text sets of this benchmark: texts, labels, which rows are test."""

from __future__ import annotations

import csv
import gzip
import io
import os
import zipfile
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MODELWORKS_BENCHMARK_DATA", REPOSITORY.parent / "shared" / "data"))

NAMES = (
    "sms_spam", "sst2", "ag_news_test", "airline_tweets", "hate_speech", "zh_online_shopping_10_cats", "zh_waimai_10k",
)  # fmt: skip


def load(name: str, most: int) -> tuple[list[str], list[str], np.ndarray]:
    """Return texts, labels and the test mask: the official part of sst2, else a quarter drawn with seed 0.

    Args:
        name: Of the set.
        most: Rows, at most; more are thinned evenly.
    """
    if name == "sst2":
        found = [
            (line[2:].strip(), line[0], part == "test")
            for part in ("train", "test")
            for line in (DATA / name / f"stsa.binary.{part}").read_text(encoding="utf-8").splitlines()
        ]
        texts, labels, tests = (list(column) for column in zip(*found, strict=True))
        return texts, labels, np.array(tests)
    pairs = [(text, label) for text, label in _pairs(name) if text and label]
    if len(pairs) > most:
        pairs = [pairs[index] for index in np.linspace(0, len(pairs) - 1, most).astype(int)]
    test = np.random.default_rng(0).random(len(pairs)) < 0.25
    return [text for text, _ in pairs], [label for _, label in pairs], test


def _pairs(name: str) -> list[tuple[str, str]]:
    folder = DATA / name
    if name == "sms_spam":
        lines = (folder / "sms.tsv").read_text(encoding="utf-8").splitlines()
        return [(line.partition("\t")[2], line.partition("\t")[0]) for line in lines]
    if name == "ag_news_test":
        with gzip.open(folder / "test.csv.gz", "rt", encoding="utf-8") as stream:
            return [(f"{row[1]} {row[2]}", row[0]) for row in csv.reader(stream)]
    if name == "zh_online_shopping_10_cats":
        with zipfile.ZipFile(folder / "online_shopping_10_cats.zip") as archive:
            (member,) = [item for item in archive.namelist() if item.endswith("csv")]
            text = archive.read(member).decode("utf-8-sig")
        return [(row["review"] or "", row["cat"]) for row in csv.DictReader(io.StringIO(text))]
    if name == "zh_waimai_10k":
        with (folder / "waimai_10k.csv").open(encoding="utf-8-sig", newline="") as stream:
            return [(row["review"] or "", row["label"]) for row in csv.DictReader(stream)]
    file, text_column, label = {
        "airline_tweets": ("TwitterUSAirlineSentiment.csv.gz", "text", "airline_sentiment"),
        "hate_speech": ("labeled_data.csv.gz", "tweet", "class"),
    }[name]
    with gzip.open(folder / file, "rt", encoding="utf-8", newline="") as stream:
        return [(row[text_column], row[label]) for row in csv.DictReader(stream)]

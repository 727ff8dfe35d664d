"""Finding the encoding of a text file, and turning its blocks into UTF-8 with bad bytes marked."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from modelworks.core.errors import DataError

BAD_BYTES = "\ufdd0"
"""Stands where bytes could not be decoded; a noncharacter, so never in text meant for exchange."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = bytes({*range(9), *range(14, 31)} - {1})
_SURROGATES = re.compile("[\udc80-\udcff]+")


_VIDEO = {"mp4", "avi", "mov", "mkv", "webm", "m4v", "mpg"}
_MEDICAL = {"dcm", "dicom", "nii", "nrrd"}


def find_encoding(head: bytes, name: str) -> str:
    """Return the encoding of a text by its first bytes.

    A byte-order mark decides; else NUL bytes at every other place mean UTF-16; else valid UTF-8; else
    ``gb18030`` if that reads mostly as common Chinese characters; else ``cp1252`` or ``latin-1``.

    Raises:
        DataError: The bytes are not text.
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if b"\x00" in head:
        even, odd = head[0::2].count(0), head[1::2].count(0)
        half = max(1, len(head) // 2)
        if odd > 0.3 * half and even < 0.05 * half:
            return "utf-16-le"
        if even > 0.3 * half and odd < 0.05 * half:
            return "utf-16-be"
        if len(head.translate(None, _CONTROLS)) < 0.98 * len(head):
            raise DataError(f"'{name}' is not a text file.", code="MW1124", where=name, hint=_advice(name))
    if not utf8_error(head):
        return "utf-8"
    return legacy_encoding(head)


def _advice(name: str) -> str:
    """Return what to do with a file of bytes, by its ending."""
    ending = name.lower().rpartition(".")[2]
    if ending in _VIDEO:
        return (
            "videos are not read: cut frames into a folder of images first (ffmpeg -i FILE frames/%05d.jpg)"
        )
    if ending in _MEDICAL:
        return "DICOM and NIfTI are not read: write the slices as PNG files first"
    return "--read format=parquet, excel, arrow, json or csv says what it is"


def utf8_error(data: bytes) -> bool:
    """Say whether bytes are not UTF-8; a character cut off at the end is no error."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(data)
    except UnicodeDecodeError:
        return True
    return False


def legacy_encoding(data: bytes) -> str:
    """Choose among encodings before UTF-8, or ``utf-8`` if most lines with such bytes are valid UTF-8."""
    lines = [line for line in data.split(b"\n")[:20000] if not line.isascii()]
    valid = sum(not utf8_error(line) for line in lines)
    if valid > len(lines) / 2:
        return "utf-8"
    sample = b"\n".join(lines)
    if _reads_as_chinese(sample):
        return "gb18030"
    try:
        sample.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def _reads_as_chinese(sample: bytes) -> bool:
    """Say whether bytes are GB 18030 text made of the 3,755 common characters (GB 2312, level 1).

    Accented letters of Latin-1 in pairs also decode, but to rare characters of level 2.
    """
    text = sample.decode("gb18030", "replace")
    foreign = [character for character in text if ord(character) > 127]
    if not foreign or "\ufffd" in text[:-1]:
        return False
    coded = [character.encode("gb2312", "replace") for character in foreign]
    common = sum(len(pair) == 2 and (0xB0 <= pair[0] <= 0xD7 or pair[0] in {0xA1, 0xA3}) for pair in coded)
    return common > 0.8 * len(foreign)


@dataclass
class Transcoder:
    """Turns blocks of bytes into UTF-8.

    Attributes:
        encoding: Current encoding; a file that began as pure ASCII may still prove to be another one.
        settled: Whether a byte above 127 was seen (or the user said which encoding it is).
        bad_blocks: Number of blocks with undecodable bytes.
    """

    encoding: str
    settled: bool = False
    bad_blocks: int = 0

    def __post_init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder(self.encoding)("surrogateescape")

    def feed(self, block: bytes, final: bool) -> bytes:
        """Return the UTF-8 of a block; undecodable bytes become ``BAD_BYTES``."""
        if not self.settled and not block.isascii():
            self.settled = True
            if self.encoding == "utf-8" and utf8_error(block):
                self.encoding = legacy_encoding(block)
                self._decoder = codecs.getincrementaldecoder(self.encoding)("surrogateescape")
        text = self._decode(block, final)
        try:
            return text.encode("utf-8")
        except UnicodeEncodeError:
            self.bad_blocks += 1
            return _SURROGATES.sub(BAD_BYTES, text).encode("utf-8", "replace")

    def _decode(self, block: bytes, final: bool) -> str:
        try:
            return self._decoder.decode(block, final)
        except UnicodeDecodeError:
            # UTF-16 has no surrogateescape: keep what can be read and mark the rest.
            self._decoder = codecs.getincrementaldecoder(self.encoding)("replace")
            return self._decoder.decode(block, final).replace("\ufffd", BAD_BYTES)

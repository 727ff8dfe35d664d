"""Words that have an order: sizes, ratings, education, months, number words, intervals."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SCALES = (
    "very low|low|medium low|medium|moderate|medium high|high|very high|extreme|critical",
    "none|low|mid|high",
    "tiny|small|medium|large|huge",
    "xxs|xs|s|m|l|xl|xxl|xxxl",
    "never|rarely|seldom|sometimes|occasionally|often|frequently|usually|always",
    "strongly disagree|disagree|somewhat disagree|neutral|somewhat agree|agree|strongly agree",
    "very dissatisfied|dissatisfied|neutral|satisfied|very satisfied",
    "very poor|poor|bad|fair|average|ok|good|very good|premium|excellent|ideal|outstanding",
    "po|fa|ta|gd|ex",
    "very negative|negative|neutral|positive|very positive",
    "none|mild|moderate|severe|very severe|critical",
    "absent|mild|moderate|severe",
    "not at all|slightly|moderately|very|extremely",
    "beginner|novice|intermediate|advanced|expert",
    "trainee|junior|mid|senior|lead|principal",
    "bronze|silver|gold|platinum|diamond",
    "cold|cool|mild|warm|hot",
    "slow|medium|fast",
    "young|middle-aged|middle aged|old",
    "first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth",
    "1st|2nd|3rd|4th|5th|6th|7th|8th|9th|10th|11th|12th",
    "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve",
    "i|ii|iii|iv|v|vi|vii|viii|ix|x",
    "jan|feb|mar|apr|may|jun|june|jul|july|aug|sep|sept|oct|nov|dec",
    "january|february|march|april|may|june|july|august|september|october|november|december",
    "mon|tue|wed|thu|fri|sat|sun",
    "thur|fri|sat|sun",
    "monday|tuesday|wednesday|thursday|friday|saturday|sunday",
    "night|morning|noon|afternoon|evening",
    "spring|summer|autumn|fall|winter",
    "i3|i2|i1|si3|si2|si1|vs2|vs1|vvs2|vvs1|if|fl",
    "d|c|cc|ccc|b|bb|bbb|a|aa|aaa",
    "not recommended|recommend|recommended|very recommended|priority|special priority",
    "preschool|1st-4th|5th-6th|7th-8th|9th|10th|11th|12th|hs-grad|some-college|assoc-voc|assoc-acdm"
    "|bachelors|masters|prof-school|doctorate",
    "no education|primary|primary school|lower secondary|secondary|middle school|high school|associate"
    "|some college|college|bachelor|bachelor's|bachelors|undergraduate|graduate|postgraduate|master|master's"
    "|masters|phd|doctorate",
    "unknown|primary|secondary|tertiary",
    "低|中|高",
    "很差|差|一般|好|很好",
    "小|中|大",
)
_RANKS = tuple({word: rank for rank, word in enumerate(scale.split("|"))} for scale in _SCALES)
_LETTER_GRADES = {"d", "c", "cc", "ccc", "b", "bb", "bbb", "a", "aa", "aaa"}
_NUMERAL = re.compile(
    r"^(?:(?P<below><=?|under |below |less than |up to )|(?P<above>>=?|over |above |more than ))?\s*"
    r"[\[(]?\s*[$€£¥]?(?P<low>-?\d[\d,]*\.?\d*)\s*[kK%]?"
    r"(?:\s*(?:-|–|to|,|\.\.)\s*[$€£¥]?(?P<high>-?\d[\d,]*\.?\d*)\s*[kK%]?)?\s*[\])]?"
    r"(?P<plus>\+| ?or more| and over)?\s*(?:years?|yrs?|months?|days?|hours?|hrs?|km|mi|kg)?$",
    re.IGNORECASE,
)
_STEPPED = re.compile(
    r"^(grade|level|stage|class|tier|phase|step|year|quarter|q|week|day)[ _-]?(\d+)$", re.IGNORECASE
)


def natural_order(levels: Sequence[str]) -> tuple[list[str], str] | None:
    """Return the levels in their order and what orders them, or ``None`` if they have none."""
    words = [_plain(level) for level in levels]
    if len(levels) < 3 or len(set(words)) != len(levels):
        return None
    for ranks in _RANKS:
        if all(word in ranks for word in words):
            if set(words) <= _LETTER_GRADES and not any(len(word) > 1 for word in words):
                continue
            return _sorted_by(levels, [float(ranks[word]) for word in words]), "words of a known scale"
    stepped = [_STEPPED.match(word) for word in words]
    if all(stepped) and len({match[1].lower() for match in stepped if match}) == 1:
        return _sorted_by(levels, [float(match[2]) for match in stepped if match]), "numbered steps"
    return _order_intervals(levels, words)


def _order_intervals(levels: Sequence[str], words: Sequence[str]) -> tuple[list[str], str] | None:
    keys = []
    ranges = 0
    for word in words:
        match = _NUMERAL.match(word)
        if match is None:
            return None
        low = float(match["low"].replace(",", ""))
        ranges += bool(match["high"] or match["below"] or match["above"] or match["plus"])
        keys.append(low - 0.5 if match["below"] else low + 0.5 if match["above"] or match["plus"] else low)
    if ranges < 0.6 * len(levels):
        return None
    return _sorted_by(levels, keys), "intervals"


def _sorted_by(levels: Sequence[str], keys: Sequence[float]) -> list[str]:
    return [level for _, level in sorted(zip(keys, levels, strict=True))]


def _plain(level: str) -> str:
    word = level.strip().lower()
    return word if "-" in word and any(mark.isdigit() for mark in word) else word.replace("_", " ")

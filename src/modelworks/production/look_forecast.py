"""What embedding a table should take: the card of a backbone, corrected by how far it was off on earlier tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from modelworks.production.embedding import LEARN_FROM
from modelworks.production.forecast import CERTAINTY, Forecast

if TYPE_CHECKING:
    from modelworks.core.backbone import BackboneCard

SPACE = "looks"
USUAL_VALUES = 256
"""Values of a series whose embedding takes what its card says; longer ones take as many times longer."""

DECODE_MS = 0.05
"""CPU-milliseconds of decoding an image, for each kilobyte of its file; each backbone decodes for itself."""

PRIOR_WEIGHT, PRIOR_SPREAD = 0.5, 0.5
"""Weight of a card beside tables seen, and the standard deviation of its error on the logarithm: machines differ
twofold, a busy one takes twice the CPU-seconds of a quiet one."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """One backbone's look at one table.

    Attributes:
        backbone: Its name.
        rows: Samples it embeds.
        learned: Samples it learns from.
        kilobytes: Size of one encoded sample; 0 where nothing is decoded.
        values: Values of the longest series; 0 without any.
        cpu_s: CPU-seconds it took; 0 before.
    """

    backbone: str
    rows: int
    learned: int
    kilobytes: float = 0.0
    values: int = 0
    cpu_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What is known about looking at a table before it is looked at.

    Attributes:
        lessons: Looks at other tables, with what they took.
        kept: Backbones whose embeddings of this table are at hand.
        bytes: Size of the table.
    """

    lessons: Sequence[Look] = ()
    kept: frozenset[str] = frozenset()
    bytes: int = 0


def look_of(card: BackboneCard, rows: int, test_share: float, size: int, values: int) -> Look:
    """Return what a backbone has to look at.

    Args:
        card: What it is.
        rows: Rows of the table.
        test_share: Share of them that is sealed, from which it does not learn.
        size: Bytes of the table.
        values: Values of its longest series, 0 without any.
    """
    learned = min(round(rows * (1 - test_share)), LEARN_FROM[card.modality]) if card.fitted else 0
    kilobytes = size / 1024 / max(1, rows) if card.modality == "image" else 0.0
    return Look(backbone=card.name, rows=rows, learned=learned, kilobytes=kilobytes, values=values)


def card_cost_s(card: BackboneCard, look: Look) -> float:
    """Return the CPU-seconds of a look as the card says: a sample embedded, a sample learned from, each decoded."""
    longer = max(1.0, look.values / USUAL_VALUES)
    own = (card.cost_ms * look.rows + card.fit_ms * look.learned) * longer
    decoding = DECODE_MS * look.kilobytes * (look.rows + look.learned)
    return (card.fit_s if look.learned else 0.0) + (own + decoding) / 1000


def forecast_look(card: BackboneCard, look: Look, lessons: Sequence[Look]) -> Forecast:
    """Foretell one look: what the card says, times how much more the same backbone took on earlier tables.

    The mean of the errors on the logarithm, shrunk towards none as if the card were half a table.
    """
    errors = [
        math.log(lesson.cpu_s / card_cost_s(card, lesson))
        for lesson in lessons
        if lesson.backbone == look.backbone and lesson.cpu_s > 0
    ]
    total = PRIOR_WEIGHT + len(errors)
    centre = sum(errors) / total
    spread = PRIOR_WEIGHT * PRIOR_SPREAD**2 + sum((error - centre) ** 2 for error in errors)
    sigma = math.sqrt(spread / total)
    guess = card_cost_s(card, look) * math.exp(centre)
    return Forecast(
        cpu_s=guess * math.exp(0.5 * sigma**2),
        low=guess * math.exp(-CERTAINTY * sigma),
        high=guess * math.exp(CERTAINTY * sigma),
        basis=len(errors),
    )


@dataclass
class LookMemory:
    """The looks of this installation, kept in the memory of the catalog.

    Attributes:
        memory: The memory; ``None`` where a run is to learn nothing from others.
        lessons: Key of the step -> what it took.
    """

    memory: Any
    lessons: dict[str, Look] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.memory is not None:
            self.lessons = {key: Look(**value) for key, value in self.memory.recall(SPACE).items()}

    def learn(self, key: str, look: Look) -> None:
        """Keep what a look took, once."""
        if self.memory is not None and key not in self.lessons:
            self.lessons[key] = look
            self.memory.remember(SPACE, key, look.to_json())

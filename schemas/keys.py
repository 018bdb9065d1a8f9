"""What makes two judgements the same: the normalised query and the label key."""

from __future__ import annotations

import hashlib
import unicodedata
from typing import NamedTuple


def normalise_query(query: str) -> str:
    """Fold what never changes what a shopper means: compatibility forms, case, white space.

    Args:
        query: As typed.

    Returns:
        NFKC form, case folded, single spaces, trimmed. Idempotent.
    """
    # Case folding can leave NFKC (and the other way round), so the pair is applied until nothing moves.
    text, folded = query, ""
    while folded != text:
        folded, text = text, unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.split())


class JudgeVersion(NamedTuple):
    """Everything beside the pair itself that a judgement depends on."""

    model: str
    prompt: str
    scale: str


def label_key(query: str, product_hash: str, judge: JudgeVersion) -> str:
    """Identity of one judgement.

    Args:
        query: Normalised query.
        product_hash: Content hash of the product text that the model sees.
        judge: Versions of model, prompt and scale.

    Returns:
        32 hexadecimal digits; any change of the five parts changes it.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (query, product_hash, *judge):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(4, "big") + data)
    return digest.hexdigest()

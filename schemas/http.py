"""What travels over HTTP: the bodies of requests and answers, and the one shape of errors."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.config import JsonDict

from labelstream.schemas.label import LabelRecord
from labelstream.schemas.product import MAX_ATTRIBUTES_SHOWN, Identifier, IdentifierOrEmpty, Product, Text

MAX_PAIRS = 1000
MAX_DOCUMENTS = 1000
MAX_RANK_FIELDS = 100

RerankModel = Literal["ranker", "cross-encoder", "labeller"]

_PRODUCT_EXAMPLE: JsonDict = {"title": "Logitech M185 wireless mouse", "brand": "Logitech", "category": "computer mice"}


class _Request(BaseModel):
    # A misspelt option would otherwise be ignored in silence.
    model_config = ConfigDict(extra="forbid")


class InlineProduct(Product):
    """A product that the caller describes; nothing is remembered of it.

    What no model sees of it is not kept for the time of the request either: a body could hold millions of things.
    """

    model_config = ConfigDict(extra="ignore")

    product_id: IdentifierOrEmpty = Field(
        default="", description="Comes back with the label; may be empty or left out."
    )

    @field_validator("attributes")
    @classmethod
    def _only_what_is_shown(cls, attributes: dict[str, str]) -> dict[str, str]:
        return dict(islice(attributes.items(), MAX_ATTRIBUTES_SHOWN))

    @field_validator("alternative_ids")
    @classmethod
    def _nobody_looks_it_up(cls, _: list[str]) -> list[str]:
        return []


class LabelPair(_Request):
    """One query and one product: ``product_id`` of the catalogue, or the product itself."""

    query: Text = Field(min_length=1, description="As a shopper typed it.")
    product_id: Identifier | None = Field(default=None, description="Id, or alternative id, in the catalogue.")
    product: InlineProduct | None = Field(default=None, description="The product, where it is not in the catalogue.")

    @model_validator(mode="after")
    def _names_one_product(self) -> LabelPair:
        if (self.product_id is None) == (self.product is None):
            raise ValueError("give product_id or product, one of the two")
        return self


class LabelsRequest(_Request):
    """Pairs to be judged."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "pairs": [
                        {"query": "wireless mouse", "product": _PRODUCT_EXAMPLE},
                        {"query": "wireless mouse", "product_id": "P1001"},
                    ]
                }
            ]
        }
    )

    pairs: list[Any] = Field(
        min_length=1,
        max_length=MAX_PAIRS,
        description="1 to 1,000 pairs. A bad one has an error in the answer and does not fail the rest.",
        json_schema_extra={"items": {"$ref": "#/components/schemas/LabelPair"}},
    )
    cross_encoder: bool = Field(default=False, description="Also score each pair with the cross-encoder.")


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="Dotted path in the body.")
    message: str


class Problem(BaseModel):
    """An error, as RFC 9457 has it (application/problem+json)."""

    type: str = Field(description="A URN that names the kind of error; does not change between versions.")
    title: str = Field(description="The kind of error in words.")
    status: int = Field(ge=100, le=599)
    detail: str = Field(description="What happened here, and what to do about it.")
    instance: str | None = Field(default=None, description="The request's id, as in the logs.")
    errors: list[FieldError] = Field(default_factory=list, description="One for each offending field.")


class LabelResult(BaseModel):
    """The answer to one pair: a label or an error."""

    index: int = Field(ge=0, description="Position of the pair in the request.")
    label: LabelRecord | None = None
    cached: bool | None = Field(default=None, description="Whether it had been judged before; null for an error.")
    error: Problem | None = None


class LabelsResponse(BaseModel):
    """Answers in the order of the pairs."""

    id: str = Field(description="The request's id; with labels that are kept, it is in their rows.")
    results: list[LabelResult]


class RerankDocument(BaseModel):
    """One thing to be ranked: a text, a product of the catalogue, or a product itself.

    What else it holds comes back with it, and is ranked where ``rank_fields`` names it.
    """

    model_config = ConfigDict(extra="allow")

    text: Annotated[Text, Field(min_length=1)] | None = None
    product_id: Identifier | None = None
    product: InlineProduct | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        return {"text": data} if isinstance(data, str | int | float) else data

    @model_validator(mode="after")
    def _is_one_thing(self) -> RerankDocument:
        # None of them may stand there where rank_fields names others.
        if sum(value is not None for value in (self.text, self.product_id, self.product)) > 1:
            raise ValueError("give text, product_id or product, one of the three")
        return self


class RerankRequest(BaseModel):
    """A query and documents to be ordered, in the shape of Cohere's and Jina's API; unknown options are ignored."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [
                {
                    "model": "cross-encoder",
                    "query": "wireless mouse",
                    "documents": ["Logitech M185 wireless mouse", "USB-C cable 2 m"],
                    "top_n": 2,
                }
            ]
        },
    )

    model: str | None = Field(
        default=None,
        max_length=256,
        description="ranker, cross-encoder or labeller; the first of these that there is, when left out.",
    )
    query: Text = Field(min_length=1)
    rank_fields: list[str] | None = Field(
        default=None,
        max_length=MAX_RANK_FIELDS,
        description="Fields that documents are ranked by, the most telling first; their ``text`` when left out.",
    )
    documents: list[RerankDocument] = Field(
        min_length=1,
        max_length=MAX_DOCUMENTS,
        description="1 to 1,000. A plain string is short for an object with ``text``.",
        json_schema_extra={
            "items": {"anyOf": [{"type": "string", "minLength": 1}, {"$ref": "#/components/schemas/RerankDocument"}]}
        },
    )
    top_n: int | None = Field(default=None, ge=1, description="How many results; all when left out.")
    return_documents: bool | None = Field(default=False, description="Send the documents back with the results.")


class RerankResult(BaseModel):
    """One document of the ranking."""

    index: int = Field(ge=0, description="Position of the document in the request.")
    relevance_score: float = Field(ge=0, le=1, description="Higher is better; comparable within one answer only.")
    # Left out, not null: clients that check it expect an object wherever there is one.
    document: dict[str, Any] | None = Field(
        default=None,
        exclude_if=lambda document: document is None,
        description="As it was sent; only where ``return_documents`` asks for it.",
    )


class RerankUsage(BaseModel):
    """What Jina's clients expect to find; nothing is billed."""

    total_tokens: int = 0


class RerankResponse(BaseModel):
    """The ranking, best first."""

    id: str = Field(description="The request's id.")
    model: RerankModel = Field(description="What ranked.")
    model_version: str
    results: list[RerankResult]
    usage: RerankUsage = Field(default_factory=RerankUsage)


class ModelEntry(BaseModel):
    """One model that answers."""

    id: RerankModel
    version: str
    prompt_version: str | None = None
    scale_version: str | None = None
    levels: tuple[str, ...] | None = Field(default=None, description="Relevance levels of a label, worst first.")
    level_worths: tuple[float, ...] | None = Field(default=None, description="Worth of each level, in [0, 1].")
    polarization_alpha: float | None = None
    polarization_beta: float | None = None
    since: str | None = Field(default=None, description="When a ranker became champion (ISO 8601).")


class ModelsResponse(BaseModel):
    """What answers here."""

    models: list[ModelEntry]


class Health(BaseModel):
    """Whether the endpoint lives, or what it waits for."""

    status: Literal["ok", "not ready"]
    waiting_for: list[str] = Field(default_factory=list)

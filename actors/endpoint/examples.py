"""Successful answers as the OpenAPI document shows them; ``docs/http-api.md`` shows the first one too."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from labelstream.schemas.http import Health, LabelsResponse, ModelsResponse, RerankResponse

_ID = "5d1c7e0b6b0f4f6c9d0e2a7f3b8c4d11"
_UNKNOWN = "product_id: the catalogue has no product 'P1001'; send the product itself"

_LABELS: dict[str, Any] = {
    "id": _ID,
    "results": [
        {
            "index": 0,
            "cached": False,
            "error": None,
            "label": {
                "label_key": "0" * 32,
                "query": "wireless mouse",
                "product_id": "",
                "product_hash": "0" * 24,
                "probabilities": [0.02, 0.08, 0.9],
                "level": "high",
                "expected_score": 0.94,
                "polarized_score": 0.99,
                "polarization_alpha": 10.0,
                "polarization_beta": 0.5,
                "temperature": 1.0,
                "shortened": False,
                "cross_encoder_score": None,
                "cross_encoder_version": None,
                "model_version": "judge-1",
                "prompt_version": "p1",
                "scale_version": "s1",
                "judged_at": "2026-01-05T08:00:00Z",
                "request_id": _ID,
            },
        },
        {
            "index": 1,
            "cached": None,
            "label": None,
            "error": {
                "type": "urn:labelstream:problem:bad-record",
                "title": "This cannot be answered",
                "status": 422,
                "detail": _UNKNOWN,
                "instance": None,
                "errors": [{"field": "pairs.1.product_id", "message": _UNKNOWN}],
            },
        },
    ],
}
_RERANK: dict[str, Any] = {
    "id": _ID,
    "model": "cross-encoder",
    "model_version": "encoder-1",
    "results": [{"index": 0, "relevance_score": 0.93}],
    "usage": {"total_tokens": 0},
}
_MODELS: dict[str, Any] = {
    "models": [
        {
            "id": "labeller",
            "version": "judge-1",
            "prompt_version": "p1",
            "scale_version": "s1",
            "levels": ["irrelevant", "moderate", "high"],
            "level_worths": [0.0, 0.5, 1.0],
            "polarization_alpha": 10.0,
            "polarization_beta": 0.5,
            "since": None,
        }
    ]
}
EXAMPLES: dict[type[BaseModel], dict[str, Any]] = {
    Health: {"status": "ok", "waiting_for": []},
    LabelsResponse: _LABELS,
    ModelsResponse: _MODELS,
    RerankResponse: _RERANK,
}
NOT_READY: dict[str, Any] = {"status": "not ready", "waiting_for": ["labeller"]}

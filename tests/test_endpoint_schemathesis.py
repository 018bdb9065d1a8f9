"""Schemathesis asks for what the OpenAPI document describes, and for what it does not, with stand-ins for the models.

``test_serving.py`` asks the models themselves.
"""

from __future__ import annotations

from pathlib import Path

from endpoints import InstantServices, endpoint_app, served
from schemathesis_command import ask_what_is_described, needs_schemathesis

from labelstream.actors.endpoint.tokens import add_token

# Neither holds here by design: a bad pair is answered with 200 and an error in its place, numbers are taken for texts,
# and a text may be too long or say nothing where its JSON schema is satisfied.
NOT_CHECKED = "negative_data_rejection,positive_data_acceptance"


@needs_schemathesis
def test_every_answer_is_as_described(tmp_path: Path):
    tokens = tmp_path / "tokens"
    token = add_token(tokens, "schemathesis")
    options = f"--checks all --exclude-checks {NOT_CHECKED} --max-examples 25"
    with served(endpoint_app(InstantServices(), tokens_file=tokens)) as url:
        ask_what_is_described(url, f"Bearer {token}", options, tmp_path)

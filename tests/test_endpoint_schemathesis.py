"""Schemathesis reads the OpenAPI document and asks for what it describes, and for what it does not.

As a command of its own, over a real socket: what it finds, anybody with the address would find.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from endpoints import InstantServices, endpoint_app, served

from labelstream.actors.endpoint.tokens import add_token

COMMAND = Path(sys.executable).with_name("schemathesis")
# Neither holds here by design: a bad pair is answered with 200 and an error in its place, numbers are taken for texts,
# and a text may be too long or say nothing where its JSON schema is satisfied.
NOT_CHECKED = "negative_data_rejection,positive_data_acceptance"
OPTIONS = f"--checks all --exclude-checks {NOT_CHECKED} --max-examples 25 --seed 1 --no-color"


@pytest.mark.skipif(not COMMAND.exists(), reason="schemathesis is not installed: requirements/dev.txt")
def test_every_answer_is_as_described(tmp_path: Path):
    tokens = tmp_path / "tokens"
    token = add_token(tokens, "schemathesis")
    with served(endpoint_app(InstantServices(), tokens_file=tokens)) as url:
        command = [
            COMMAND,
            "run",
            f"{url}/openapi.json",
            "--header",
            f"Authorization: Bearer {token}",
            *OPTIONS.split(),
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 selected / 7 total" in done.stdout, done.stdout

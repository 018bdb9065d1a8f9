"""/docs: Swagger UI, served from here, so that it works where the internet does not reach."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.responses import HTMLResponse

ASSETS = "/docs/assets"


def add_docs_page(app: FastAPI) -> None:
    """Add the page and its assets to an application."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",  # relative, for proxies that put us below a path of their own
        title="labelstream: HTTP API",
        swagger_js_url="docs/assets/swagger-ui-bundle.js",
        swagger_css_url="docs/assets/swagger-ui.css",
        swagger_favicon_url="docs/assets/favicon.png",
        swagger_ui_parameters={"displayRequestDuration": True, "tryItOutEnabled": True},
    )
    html = bytes(page.body).decode()
    headers = {"Content-Security-Policy": _policy(html)}
    app.mount(ASSETS, StaticFiles(directory=Path(str(files("fastapi_offline") / "static"))))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(html, headers=headers)


def _policy(html: str) -> str:
    """Allow the page's own inline script, and nothing from elsewhere."""
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src 'self' {allowed}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
    )

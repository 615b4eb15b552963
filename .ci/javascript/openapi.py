"""Print the description of the HTTP API, from which the types of its answers are made."""

import json

from fastapi import FastAPI

from circuit_atlas.service.web.app import routes

app = FastAPI(title="Circuit Atlas")
app.include_router(routes())
print(json.dumps(app.openapi()))  # noqa: T201

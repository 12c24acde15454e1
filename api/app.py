"""Creates the API as a FastAPI application.

`uvicorn --factory api.app:create_app` works, too: what is not passed is read from the environment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from fastapi.middleware.gzip import GZipMiddleware

from api import openapi, problems
from api.middleware import RequestMiddleware, unexpected_error
from api.problems import ProblemDetails
from api.routes import batches, health, model, pages, predict
from api.schemas import FileForm
from api.store import Connection, Store, connect
from api.v2 import routes as v2
from api.v2.schemas import InferRequest
from shared.records.artifact import Artifact, load_artifact
from shared.records.scoring import Scorer
from shared.settings import ApiSettings, load_settings


def create_app(
    artifact: Artifact | None = None,
    settings: ApiSettings | None = None,
    connect: Callable[[ApiSettings], Awaitable[Connection]] = connect,
) -> FastAPI:
    """The API over a loaded model; storage is connected when the first batch comes.

    Raises `StartupError` when settings or the artifact are read here and are wrong.
    """
    settings = settings or load_settings(ApiSettings)
    artifact = artifact or load_artifact(
        settings.model_dir, settings.model_sha256, allow_pickle=settings.allow_pickle
    )
    manifest = artifact.manifest
    scorer = Scorer(artifact.model, manifest.fields, manifest.answer_kind)
    store = Store(partial(connect, settings))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await store.close()

    app = FastAPI(
        title="heart-scorer",
        description=f"{manifest.title}\n\n{manifest.notice}",
        version=manifest.version,
        lifespan=lifespan,
        # FastAPI's own pages load their scripts from another host.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        contact={"name": "The operator of this service"},
        license_info={"name": "MIT", "identifier": "MIT"},
        # FastAPI's own would send paths, queries and texts of errors: see shared/tracing.py.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        openapi_tags=openapi.TAGS,
    )
    app.state.public_url = settings.public_url
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=6)
    app.add_middleware(RequestMiddleware, keys=settings.keys, capacity=settings.requests)
    problems.add_handlers(app)
    app.add_exception_handler(Exception, unexpected_error)
    app.include_router(predict.router(scorer, manifest, settings))
    app.include_router(batches.router(store, settings, scorer.table.record_model))
    app.include_router(v2.router(scorer, artifact, settings))
    app.include_router(model.router(artifact, settings.model_dir))
    app.include_router(health.router(artifact))
    app.include_router(pages.router(app.title))
    openapi.complete(
        app, secured=bool(settings.keys), models=[ProblemDetails, FileForm, InferRequest]
    )
    return app

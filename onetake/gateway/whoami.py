"""One endpoint by which `onetake doctor` knows our gateway from anybody else who answers at its public address."""

import asyncio
import re
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse

from onetake.core.errors import OnetakeError
from onetake.ledger.database import Database

WHOAMI: Final = "/whoami"
NONCE: Final = re.compile(r"[0-9a-f]{16,64}")
ANSWER_S: Final = 3.0


def answer_whoami(app: FastAPI, database: Database) -> FastAPI:
    """Answer `GET /whoami/NONCE` with what only a gateway on this database, in its present life, can know of it.

    503 while the database is away, and for whoever does not get a turn in `ANSWER_S`: anybody may ask, and takes one
    connection at most from those that callbacks need. The answer tells nothing of the secret that it is made with.
    """
    turn = asyncio.Semaphore(1)

    async def whoami(request: Request) -> Response:
        nonce = request.path_params["nonce"]
        if not NONCE.fullmatch(nonce):
            return Response(status_code=404)
        try:
            async with asyncio.timeout(ANSWER_S), turn:
                row = await database.answer("select onetake.whoami($1) as answer", nonce)
        except (OnetakeError, TimeoutError):
            return Response(status_code=503)
        return PlainTextResponse(row["answer"])

    app.add_route(WHOAMI + "/{nonce}", whoami, methods=["GET"])
    return app

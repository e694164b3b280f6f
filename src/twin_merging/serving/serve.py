"""Loads a merged model and serves it until the process is told to end."""

from __future__ import annotations

import logging
import signal
import socket
from pathlib import Path

from twin_merging.errors import UserError
from twin_merging.serving.settings import Settings, checked

log = logging.getLogger(__name__)


def serve(directory: str | Path, settings: Settings) -> None:
    """Serve a directory's model. Returns when SIGTERM or SIGINT has come and what was begun has been answered.

    Raises UserError for a directory that holds no merged model, a model that cannot be served, settings that
    are wrong, an address that others reach without a key, and a port that is taken.
    """
    settings = checked(settings)
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn
    except ModuleNotFoundError as error:
        raise UserError(
            f"serve needs {error.name}, which is not installed; install the extra: pip install 'twin-merging[serve]'"
        ) from None
    listening = _listening(settings)
    from twin_merging.serving.http.app import application
    from twin_merging.serving.site import site

    app = application(site(directory, settings))
    # uvicorn raises the signals that it got once more when it has ended: they have done their work by then.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    host, port = listening.getsockname()[:2]
    log.info("http://%s:%d serves %s", f"[{host}]" if ":" in host else host, port, directory)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(settings.drain)),
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listening])


def _listening(settings: Settings) -> socket.socket:
    host = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, settings.port))
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        told = getattr(error, "strerror", None) or str(error)
        raise UserError(f"--host {settings.host} --port {settings.port}: {told}; name another port or host") from None
    return listening

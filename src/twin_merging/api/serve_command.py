"""The command `serve`."""

from __future__ import annotations

import argparse
from typing import Any


def add_serve(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_serve)
    command.description = "Answers clients of OpenAI's interface with a merged model. See docs/serving.md."
    command.add_argument("directory", metavar="DIR", help="a merged model's directory")
    command.add_argument("--host", default="127.0.0.1", help="the address; others than this machine's need a key "
                         "(%(default)s)")  # fmt: skip
    command.add_argument("--port", type=int, default=8000, help="0: one that is free (%(default)s)")
    command.add_argument("--api-key", metavar="KEY", help="what clients have to show; better in the variable "
                         "TWIN_MERGING_API_KEY, which other users of the machine do not see")  # fmt: skip
    command.add_argument("--served-model-name", metavar="NAME", help="(the directory's)")
    command.add_argument("--max-batch", type=int, default=32, metavar="ROWS", help="answered together (%(default)s)")
    command.add_argument("--max-queue", type=int, default=256, metavar="ROWS", help="that may wait (%(default)s)")
    command.add_argument("--max-length", type=int, metavar="TOKENS",
                         help="of a prompt with its answer, or of a text to label (the model's)")  # fmt: skip
    command.add_argument("--timeout", type=float, default=600, metavar="SECONDS",
                         help="within which a request has to be answered (%(default)s)")  # fmt: skip
    command.add_argument("--drain", type=float, default=60, metavar="SECONDS",
                         help="that running requests get at SIGTERM (%(default)s)")  # fmt: skip
    command.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16 (%(default)s)")
    command.add_argument("--no-page", dest="page", action="store_false", help="without the page at /")


def _serve(given: dict[str, Any]) -> None:
    from twin_merging.serving.serve import Settings, serve

    serve(given.pop("directory"), Settings(**given))

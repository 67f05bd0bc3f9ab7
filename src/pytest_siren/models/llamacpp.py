"""llama.cpp in this process: its own OpenAI-compatible server on the loopback."""

from __future__ import annotations

import os
import secrets
from importlib.resources import files
from pathlib import Path
from typing import Any

from pytest_siren.evaluation.models import ModelUnavailableError

_CONTEXT = 8192
"""Tokens, prompt and answer together; what SmolLM2 was trained with."""
_BATCH = 256
"""Tokens read at once. A cancelled request is only noticed between batches."""
_MOST_THREADS = 4


class LlamaPackageError(ModelUnavailableError, ImportError):
    """The package xllamacpp is not installed."""


class LlamaStartError(ModelUnavailableError, RuntimeError):
    """llama.cpp cannot load the weights."""


class LlamaServer:
    """Loads a model and serves it until nobody holds this object.

    The same request gets the same answer, bit for bit, whatever the number of threads, whatever was
    asked before and by whom: one request at a time, 32-bit keys and values, no flash attention.
    Otherwise llama.cpp sums in an order that depends on what is cached, batched or split.

    Loading takes about half a second in which no other thread of this process runs. Raises
    ``LlamaPackageError`` without the package xllamacpp, and ``LlamaStartError``.
    """

    def __init__(self, name: str, weights: Path) -> None:
        self.key = secrets.token_hex()
        self.process = os.getpid()
        self._server = _start(name, weights, self.key)
        self.url = f"{self._server.listening_address}/v1"


def _start(name: str, weights: Path, key: str) -> Any:
    try:
        import xllamacpp
    except ImportError as error:
        raise LlamaPackageError(
            f"local:{name} needs the package xllamacpp ({error}); "
            "install it with: pip install 'pytest-siren[local]'"
        ) from error
    params: Any = xllamacpp.CommonParams()
    params.verbosity = -1
    params.model.path = str(weights)
    params.model_alias = {name}
    params.chat_template = (files(__package__) / "smollm2.jinja").read_text(encoding="utf-8")
    params.n_ctx = _CONTEXT
    params.n_batch = params.n_ubatch = _BATCH
    params.n_parallel = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_ram_mib = 512
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = _threads()
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    params.ui = False
    params.endpoint_slots = False
    try:
        return xllamacpp.Server(params)
    except Exception as error:
        what = " ".join(str(error).split())
        raise LlamaStartError(
            f"model 'local:{name}': llama.cpp cannot load {weights} ({what}); "
            f"remove that file, then fetch it again with: siren models pull {name}"
        ) from error


def _threads() -> int:
    """Return half of the CPUs, shared with xdist's other workers.

    llama.cpp's threads wait for each other hundreds of times per token. Where there are as many of
    them as CPUs, any other busy process makes an answer take ten times as long and more.
    """
    cpus = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return max(1, min(_MOST_THREADS, cpus // 2 // workers))

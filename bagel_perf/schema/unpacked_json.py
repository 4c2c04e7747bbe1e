"""A JSON file, gzipped or not."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.store import GZIP_MAGIC
from bagel_perf.schema.strict_json import parse_json


def unpacked_json(path: Path) -> Any:
    """Reads the value in a file. Raises OSError, ValueError where it is no JSON, ``UsageError`` where packing broke."""
    content = path.read_bytes()
    return parse_json(_unpacked(content) if content.startswith(GZIP_MAGIC) else content)


def _unpacked(content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except EOFError as problem:
        raise UsageError("gzip file is cut off", remedy="copy it again") from problem
    except (OSError, zlib.error) as problem:
        raise UsageError("gzip file is damaged", allowed=str(problem), remedy="copy it again") from problem

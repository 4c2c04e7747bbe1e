"""The PNG holds the pixels, whatever their number, and is the same however many threads make it."""

from __future__ import annotations

import io
import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bagel_perf.subjects.bagel import png

SIZES = [(1, 1), (7, 5), (32, 33), (33, 32), (65, 3), (256, 128)]


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pillow_reads_the_pixels_back(height: int, width: int) -> None:
    for pixels in (noise(height, width), np.zeros((height, width, 3), dtype=np.uint8)):
        encoded = png.encode_png(pixels)
        Image.open(io.BytesIO(encoded)).verify()  # checksums
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(encoded))), pixels)


def test_a_view_is_encoded_as_its_copy() -> None:
    pixels = noise(64, 64)
    assert png.encode_png(pixels[::2, ::-1]) == png.encode_png(pixels[::2, ::-1].copy())


def test_the_bytes_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(300, 40)
    with ThreadPoolExecutor(max_workers=1) as one:
        encoded = png.encode_png(pixels)
        monkeypatch.setattr(png, "_threads", lambda _: one)
        assert png.encode_png(pixels) == encoded


def test_a_process_that_is_forked_after_a_picture_encodes_the_next() -> None:
    encoded = png.encode_png(noise(256, 128))
    with multiprocessing.get_context("fork").Pool(1) as forked:
        assert forked.apply_async(png.encode_png, (noise(256, 128),)).get(timeout=5) == encoded


def test_a_thread_encodes_while_the_interpreter_ends() -> None:
    program = """
import threading, numpy as np
from bagel_perf.subjects.bagel.png import encode_png
pixels = np.zeros((256, 128, 3), dtype=np.uint8)
encoded = encode_png(pixels)
def late():
    threading.main_thread().join()
    print(encode_png(pixels) == encoded)
threading.Thread(target=late).start()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (ended.stdout, ended.stderr) == ("True\n", "")


def test_a_smooth_picture_takes_less_room_than_its_pixels() -> None:
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], (256, 256, 3))
    assert len(png.encode_png(ramp)) < ramp.size // 50

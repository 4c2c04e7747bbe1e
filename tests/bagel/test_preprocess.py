"""Pictures: what is read, how it is converted, and what the encoders get."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bagel_perf.records.errors import UsageError
from bagel_perf.subjects.bagel.model.preprocess import draw_default_picture, load_picture, vae_pixels, vit_pixels

ROOT = Path(__file__).resolve().parents[2]


def color(path: Path, image: Image.Image, **options: Any) -> object:
    image.save(path, **options)
    loaded = load_picture(path)
    assert loaded.mode == "RGB"
    return loaded.getpixel((0, 0))


def test_grey_palette_and_cmyk_become_rgb(tmp_path: Path) -> None:
    assert color(tmp_path / "grey.png", Image.new("L", (4, 4), 77)) == (77, 77, 77)
    assert color(tmp_path / "bit.png", Image.new("1", (4, 4), 1)) == (255, 255, 255)
    assert color(tmp_path / "palette.png", Image.new("RGB", (4, 4), (10, 200, 30)).convert("P")) is not None
    assert color(tmp_path / "cmyk.tif", Image.new("CMYK", (4, 4), (0, 255, 255, 0))) == (255, 0, 0)


def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((4, 4), 32896, dtype=np.uint16))
    assert color(tmp_path / "deep.png", image) == (128, 128, 128)


def test_transparency_is_put_on_white(tmp_path: Path) -> None:
    assert color(tmp_path / "clear.png", Image.new("RGBA", (4, 4), (0, 0, 0, 0))) == (255, 255, 255)
    assert color(tmp_path / "half.png", Image.new("RGBA", (4, 4), (255, 0, 0, 128))) == (255, 127, 127)
    assert color(tmp_path / "grey.png", Image.new("LA", (4, 4), (0, 0))) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0] * 256)
    assert color(tmp_path / "palette.png", palette, transparency=0) == (255, 255, 255)


def broken(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_picture(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_picture_is_one_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    draw_default_picture(64, 64).save(whole)
    assert "not a picture" in broken(tmp_path / "text.png", b"hello")
    assert "not a picture" in broken(tmp_path / "empty.png", b"")
    assert "cannot read" in broken(tmp_path / "half.png", whole.read_bytes()[:300])
    with pytest.raises(UsageError, match="no such picture"):
        load_picture(tmp_path / "absent.png")
    with pytest.raises(UsageError, match="no such picture"):
        load_picture(tmp_path)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    Image.new("L", (64, 64)).save(path)
    for limit in (3000, 1000):  # Pillow warns above its limit and raises above twice its limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(UsageError, match="too large"):
            load_picture(path)


def test_the_default_picture_is_the_same_everywhere() -> None:
    picture = draw_default_picture(256, 192)
    assert picture.size == (256, 192)
    digest = hashlib.sha256(picture.tobytes()).hexdigest()
    assert digest == "e01840c1abf74eb1e0f37ad01b617bcdf546aacb1a6693894f94016e55bfe704"
    assert np.asarray(picture).std() > 40
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 500


def test_the_autoencoder_gets_unit_range_at_the_asked_size() -> None:
    pixels = vae_pixels(draw_default_picture(300, 200), 64, 48)
    assert (pixels.shape, pixels.dtype) == ((3, 48, 64), torch.float32)
    assert pixels.is_contiguous()
    extremes = vae_pixels(Image.fromarray(np.array([[[0, 127, 255]]], dtype=np.uint8)), 1, 1).flatten()
    assert torch.allclose(extremes, torch.tensor([-1.0, 127 / 127.5 - 1, 1.0]), atol=1e-6)


def pictures() -> Iterator[Image.Image]:
    """Wide, high, tiny and larger than the image encoder's square; every value of every color; noise."""
    yield from (draw_default_picture(*size) for size in ((320, 200), (200, 320), (16, 16), (1024, 1024)))
    values = np.arange(256, dtype=np.uint8)
    yield Image.fromarray(np.stack([values, values[::-1], np.roll(values, 77)], axis=-1)[None].repeat(980, axis=0))
    noise = np.random.default_rng(0).integers(0, 256, (980, 980, 3), dtype=np.uint8)
    yield from (Image.fromarray(noise), Image.fromarray(noise[:333, :777]))


def test_the_image_encoder_gets_a_square_to_the_bit_as_transformers_makes_it() -> None:
    from transformers import SiglipImageProcessorPil

    size = {"height": 980, "width": 980}
    processor = SiglipImageProcessorPil(size=size, resample=Image.Resampling.BICUBIC)
    for image in pictures():
        pixels = vit_pixels(image)
        assert (pixels.shape, pixels.dtype) == ((3, 980, 980), torch.float32)
        assert torch.equal(pixels, processor(image, return_tensors="pt")["pixel_values"][0])


def test_an_edit_without_a_checkpoint_imports_no_transformers() -> None:
    code = """if True:
        import sys
        from bagel_perf.subjects.bagel.model.config import preset
        from bagel_perf.records.bagel import Request
        from bagel_perf.subjects.bagel.edit import request_inputs

        assert request_inputs(Request(width=32, height=32), preset("tiny"), None, 7).picture is not None
        assert "transformers" not in sys.modules
        """
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0

"""Every kind of image file has one outcome: the right pixels, or a reason that names the file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from datasets import decode
from datasets.decode import MAX_NATIVE_SIZE, Unreadable, check_header, read_square, resize, typical_side

SIZE = 8
RED, BLUE, WHITE = (200, 10, 10), (10, 10, 200), (255, 255, 255)


def halves(mode: str = "RGB") -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (SIZE, SIZE), RED)
    image.paste(BLUE, (SIZE // 2, 0, SIZE, SIZE))
    return image.convert(mode)


def corners(pixels: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """Top left, top right, bottom left, bottom right."""
    return [tuple(int(v) for v in pixels[:, y, x]) for y in (0, -1) for x in (0, -1)]


def close(one: list[tuple[int, ...]], other: list[tuple[int, ...]], by: int = 0) -> bool:
    return bool((np.abs(np.array(one) - np.array(other)) <= by).all())


@pytest.mark.parametrize(
    ("name", "by"), [("a.png", 0), ("a.bmp", 0), ("a.tif", 0), ("a.gif", 0), ("a.jpg", 3), ("a.webp", 30)]
)
def test_each_format_gives_its_pixels(tmp_path: Path, name: str, by: int) -> None:
    halves().save(tmp_path / name, **({"quality": 100, "subsampling": 0} if name == "a.jpg" else {}))  # type: ignore[arg-type]
    pixels = read_square(tmp_path / name, SIZE)
    assert pixels.shape == (3, SIZE, SIZE)
    assert pixels.dtype == np.uint8
    assert close(corners(pixels), [RED, BLUE, RED, BLUE], by)


def test_a_wrong_extension_does_not_matter(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert close(corners(read_square(tmp_path / "a.jpg", SIZE)), [RED, BLUE, RED, BLUE])


def test_gray_is_three_equal_channels(tmp_path: Path) -> None:
    Image.new("L", (SIZE, SIZE), 77).save(tmp_path / "a.png")
    assert (read_square(tmp_path / "a.png", SIZE) == 77).all()


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (65_535, 255), (257 * 100, 100), (257 * 100 - 1, 99)])
def test_sixteen_bits_are_scaled_not_cut_off(tmp_path: Path, value: int, expected: int) -> None:
    Image.fromarray(np.full((SIZE, SIZE), value, np.uint16)).save(tmp_path / "a.png")
    assert (read_square(tmp_path / "a.png", SIZE) == expected).all()


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    halves("P").save(tmp_path / "a.png")
    assert close(corners(read_square(tmp_path / "a.png", SIZE)), [RED, BLUE, RED, BLUE], by=30)


def test_cmyk_is_converted(tmp_path: Path) -> None:
    halves("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert close(corners(read_square(tmp_path / "a.jpg", SIZE)), [RED, BLUE, RED, BLUE], by=6)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (SIZE, SIZE), 0).save(tmp_path / "a.png")
    assert close(corners(read_square(tmp_path / "a.png", SIZE)), [WHITE] * 4)


def test_a_transparent_colour_of_a_palette_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (SIZE, SIZE), 1)
    image.putpalette([*RED, *BLUE])
    image.paste(0, (0, 0, SIZE // 2, SIZE))
    image.save(tmp_path / "a.png", transparency=bytes([0, 255]))
    assert close(corners(read_square(tmp_path / "a.png", SIZE)), [WHITE, BLUE, WHITE, BLUE])


def test_the_exif_tag_turns_the_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn clockwise
    halves().save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    assert close(corners(read_square(tmp_path / "a.jpg", SIZE)), [RED, RED, BLUE, BLUE], by=3)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_of_an_animation_the_first_frame_counts(tmp_path: Path, name: str) -> None:
    first, second = Image.new("RGB", (SIZE, SIZE), RED), Image.new("RGB", (SIZE, SIZE), BLUE)
    first.save(tmp_path / name, save_all=True, append_images=[second], duration=100)
    assert close(corners(read_square(tmp_path / name, SIZE)), [RED] * 4, by=30)


def test_the_centre_is_kept_or_all_of_it(tmp_path: Path) -> None:
    image = Image.new("RGB", (4 * SIZE, 2 * SIZE), RED)
    image.paste(BLUE, (SIZE, 0, 3 * SIZE, 2 * SIZE))
    image.save(tmp_path / "wide.png")
    assert close(corners(read_square(tmp_path / "wide.png", SIZE)), [BLUE] * 4, by=30)
    assert close(corners(read_square(tmp_path / "wide.png", SIZE, whole=True)), [RED] * 4)


def test_what_jpeg_skips_hardly_shows(tmp_path: Path) -> None:
    """Reading a JPEG at a fraction of its size is a matter of speed."""
    ramp = np.linspace(0, 255, 64 * SIZE).astype(np.uint8)
    Image.fromarray(np.broadcast_to(ramp[:, None], (64 * SIZE, 64 * SIZE)).copy()).save(tmp_path / "a.jpg", quality=95)
    expected = Image.open(tmp_path / "a.jpg").convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    found = read_square(tmp_path / "a.jpg", SIZE).transpose(1, 2, 0)
    assert np.abs(found.astype(int) - np.asarray(expected).astype(int)).max() <= 2


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.bmp", "a.webp"])
def test_a_truncated_file_is_named(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    cut(tmp_path / name)
    with pytest.raises(Unreadable, match=f"{name} is damaged"):
        read_square(tmp_path / name, SIZE)


@pytest.mark.parametrize(("content", "message"), [(b"", "is no JPEG"), (b"<html>moved</html>", "is no JPEG")])
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(Unreadable, match=f"a.jpg {message}"):
        read_square(tmp_path / "a.jpg", SIZE)


def broken_chunk(path: Path) -> None:
    halves().save(path)
    content = bytearray(path.read_bytes())
    content[29] ^= 0xFF  # the header's checksum
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: Image.new("1", (8000, 8000)).save(path), "claims 8000x8000 pixels, more than 50,000,000"),
        (lambda path: Image.new("1", (20_000, 20_000)).save(path), "20000x20000|400000000 pixels"),
        (lambda path: Image.fromarray(np.full((4, 4), -1.0, np.float32)).save(path, "TIFF"), "pixels of -1 to -1"),
        (broken_chunk, "is damaged|is no JPEG"),
        (lambda path: path.mkdir(), "is damaged .*directory"),
    ],
    ids=["bomb", "large bomb", "float", "checksum", "folder"],
)
def test_what_cannot_be_an_image_is_refused(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    make(tmp_path / "a.png")
    with pytest.raises(Unreadable, match=f"a.png.*({message})"):
        read_square(tmp_path / "a.png", SIZE)


def test_arrays_are_brought_to_size() -> None:
    gray = np.full((5, 5), 9, np.uint8)
    assert (resize(gray, SIZE) == 9).all()
    assert resize(gray, SIZE).shape == (1, SIZE, SIZE)
    colour = np.stack([np.full((SIZE, SIZE), v, np.uint8) for v in (1, 2, 3)], 2)
    assert np.array_equal(resize(colour, SIZE), colour.transpose(2, 0, 1))


def test_the_typical_side_is_the_median_of_the_shorter_ones_and_capped(tmp_path: Path) -> None:
    files = [tmp_path / f"{index}.png" for index in range(5)]
    for side, path in zip((10, 20, 30, 40, 50), files, strict=True):
        Image.new("L", (side, 60)).save(path)
    assert typical_side(files) == 30
    assert check_header(files[0]) == (10, 60)
    files[4].write_text("no image")
    assert typical_side(files) == 25
    Image.new("L", (900, 900)).save(tmp_path / "large.png")
    assert typical_side([tmp_path / "large.png"]) == MAX_NATIVE_SIZE
    with pytest.raises(ValueError, match="no image to be read; the first of 1 files: .*4.png is no JPEG"):
        typical_side(files[4:])


def test_threads_do_all_of_the_work_once() -> None:
    done: list[int] = []
    told: list[int] = []
    decode.in_threads(done.append, 1000, told.append)
    assert sorted(done) == list(range(1000))
    assert sum(told) == 1000

"""common/images.py: decoding at exact pixels, the cache, and augmentation."""

import io
import os

import numpy as np
import pytest
import torch
from catalogues import drawing, encoded, write_parquet
from PIL import Image, ImageOps

from common import images, workers
from common.batches import load_data
from common.catalogue import open_catalogue
from common.images import DecodedImages, augment, decode, open_images, read_image
from common.options import CatalogueOptions

RED, WHITE = (200, 30, 40), (255, 255, 255)
SIZE = (16, 12)
"""height, width"""


def plain(mode: str, size: tuple[int, int], colour) -> Image.Image:
    return Image.new(mode, size, colour)


def pixels_of(image: Image.Image, size: tuple[int, int] = (8, 8), kind: str = "PNG", **options) -> np.ndarray:
    return decode(encoded(image, kind, **options), size)[0]


# --- decoding ------------------------------------------------------------------------------------------------


def test_same_size_is_kept_to_the_pixel():
    noise = np.random.default_rng(0).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    pixels, original = decode(encoded(Image.fromarray(noise), "PNG"), SIZE)
    assert pixels.dtype == np.uint8 and original == (16, 12)
    np.testing.assert_array_equal(pixels, noise)


@pytest.mark.parametrize(
    ("original", "filled"),
    [
        ((24, 8), (slice(6, 10), slice(0, 12))),  # (width, height) -> rows and columns that are not padding
        ((3, 8), (slice(0, 16), slice(3, 9))),
        ((12, 16), (slice(0, 16), slice(0, 12))),
        ((120, 160), (slice(0, 16), slice(0, 12))),
        ((1, 1), (slice(2, 14), slice(0, 12))),
    ],
)
def test_aspect_ratio_is_kept_and_the_rest_white(original, filled):
    expected = np.full((*SIZE, 3), 255, dtype=np.uint8)
    expected[filled] = RED
    np.testing.assert_array_equal(pixels_of(plain("RGB", original, RED), SIZE), expected)


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (plain("L", (8, 8), 90), "PNG", (90, 90, 90)),
        (plain("1", (8, 8), 1), "PNG", (255, 255, 255)),
        (plain("RGBA", (8, 8), (*RED, 255)), "PNG", RED),
        (plain("RGBA", (8, 8), (*RED, 0)), "PNG", WHITE),
        (plain("RGBA", (8, 8), (0, 0, 0, 102)), "PNG", (153, 153, 153)),
        (plain("LA", (8, 8), (0, 102)), "PNG", (153, 153, 153)),
        (Image.fromarray(np.full((8, 8), 0x8040, dtype=np.uint16)), "PNG", (0x80, 0x80, 0x80)),
        (Image.fromarray(np.full((8, 8), 0x8040, dtype=np.uint16)), "TIFF", (0x80, 0x80, 0x80)),
        (plain("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (plain("RGB", (8, 8), RED), "BMP", RED),
        (plain("RGB", (8, 8), RED), "GIF", RED),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_modes(image, kind, expected):
    assert (pixels_of(image, kind=kind) == expected).all()


def test_transparent_colour_of_a_palette():
    palette = plain("P", (8, 8), 0)
    palette.putpalette([*RED, 0, 0, 255])
    assert (pixels_of(palette, transparency=0) == WHITE).all()
    assert (pixels_of(palette) == RED).all()


def test_cmyk_jpeg():
    pixels = pixels_of(plain("CMYK", (8, 8), (0, 255, 255, 0)), kind="JPEG").astype(int)
    assert (abs(pixels - (255, 0, 0)) <= 3).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_rotation(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.new("RGB", (16, 8), WHITE)
    picture.paste((0, 0, 0), (0, 0, 8, 4))
    content = encoded(picture, kind, exif=exif)
    with Image.open(io.BytesIO(content)) as image:
        upright = ImageOps.exif_transpose(image)
    size = (upright.height, upright.width)
    pixels, original = decode(content, size)
    np.testing.assert_array_equal(pixels, np.asarray(upright.convert("RGB")))
    assert original == size


def test_large_jpeg_is_decoded_like_its_full_size():
    picture = Image.open(io.BytesIO(drawing("blue", "disc", "white", size=(600, 800))))
    full = ImageOps.pad(picture.convert("RGB"), (12, 16), Image.Resampling.BICUBIC, color=WHITE)
    pixels = pixels_of(picture, SIZE, "JPEG", quality=95).astype(int)
    assert abs(pixels - np.asarray(full)).mean() < 2


# --- what cannot be decoded ----------------------------------------------------------------------------------

JPEG = drawing("red", "disc", "white")
ODD_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\x01\x01\0\x05\0\0\0\x01\0\0\0&" + bytes(12)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot identify image file"),
        (b"no image at all", "cannot identify image file"),
        (JPEG[:-20], "image file is truncated"),
        (encoded(plain("RGB", (64, 64), RED), "PNG")[:60], "image file is truncated"),
        (None, "no image bytes"),
    ],
)
def test_broken_image_is_white_with_a_reason(content, reason):
    pixels, digest, found = read_image(content, SIZE)
    assert found == reason and pixels.shape == (*SIZE, 3) and (pixels == 255).all()
    assert bool(digest) == (content is not None)


def test_unreadable_file(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    assert read_image(tmp_path / "a.jpg", SIZE)[1:] == (0, "unreadable file, Is a directory")
    assert read_image(tmp_path / "b.jpg", SIZE)[1:] == (0, "unreadable file, No such file or directory")


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", ODD_EXIF])
def test_odd_exif_does_not_spoil_the_picture(exif):
    pixels, _, found = read_image(encoded(plain("RGB", (10, 10), RED), "JPEG", exif=exif), (10, 10))
    assert found == (10, 10) and (abs(pixels.astype(int) - RED) < 4).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_bytes_never_raise_anything_else():
    random = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0
    kinds = [("RGB", "JPEG"), ("RGBA", "PNG"), ("P", "PNG"), ("RGB", "WEBP"), ("L", "TIFF")]
    originals = [encoded(plain(mode, (24, 32), 3), kind, exif=exif) for mode, kind in kinds]
    outcomes = set()
    for trial in range(600):
        content = np.frombuffer(originals[trial % len(originals)], dtype=np.uint8).copy()
        content[random.integers(0, len(content), 4)] = random.integers(0, 256, 4)
        outcomes.add(type(read_image(content.tobytes(), SIZE)[2]))
    assert outcomes == {str, tuple}


# --- the cache -----------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path, tiny_catalogue):
    return tiny_catalogue(tmp_path / "shop", products=20)


@pytest.fixture
def opened(path, tmp_path):
    """A function that opens the catalogue and its images, as a new run does."""
    return lambda size=SIZE: open_images(open_catalogue(path), size, tmp_path / "cache")


@pytest.fixture
def decoded(monkeypatch) -> list:
    """A list that grows by one for each image that is decoded."""
    calls = []

    def counting(content, size):
        calls.append(content)
        return decode(content, size)

    monkeypatch.setattr(images, "decode", counting)
    return calls


def same(first: DecodedImages, second: DecodedImages) -> bool:
    return (
        np.array_equal(first.pixels, second.pixels)
        and list(first.digests) == list(second.digests)
        and (first.errors, first.remarks) == (second.errors, second.remarks)
    )


def test_cache_holds_what_decoding_gives(path, opened):
    found = opened()
    files = open_catalogue(path).images
    expected = np.stack([decode(file.read_bytes(), SIZE)[0] for file in files])
    np.testing.assert_array_equal(found.pixels, expected)
    assert found.pixels.shape == (20, 16, 12, 3) and found.pixels.dtype == np.uint8
    assert len(set(found.digests)) == 20 and found.errors == {}
    assert found.remarks == ["images are 32x24 (height x width)"]
    with pytest.raises(ValueError, match="read-only"):
        found.pixels[0] = 0


def test_cache_is_used_again(opened, decoded):
    first = opened()
    assert len(decoded) == 20
    assert same(opened(), first) and len(decoded) == 20


def test_cache_sees_an_image_that_changed(path, opened, decoded, tmp_path):
    before = opened()
    file = path.parent / "images" / "1003.jpg"
    stat, other = file.stat(), drawing("cyan", "bar", "black")
    size = max(stat.st_size, len(other))
    file.write_bytes(file.read_bytes().ljust(size, b"\0"))
    before = opened()
    decoded.clear()
    file.write_bytes(other.ljust(size, b"\0"))  # as many bytes as before
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    after = opened()
    assert len(decoded) == 20
    changed = (after.pixels != before.pixels).any(axis=(1, 2, 3))
    assert np.flatnonzero(changed).tolist() == [3]
    assert np.flatnonzero(after.digests != before.digests).tolist() == [3]
    assert len(list((tmp_path / "cache").iterdir())) == 2  # the old state is gone


def test_cache_is_kept_by_size(opened, decoded, tmp_path):
    tall, wide = opened(), opened((12, 16))
    assert tall.pixels.shape == (20, 16, 12, 3) and wide.pixels.shape == (20, 12, 16, 3)
    assert len(decoded) == 40 and len(list((tmp_path / "cache").iterdir())) == 4
    assert same(opened(), tall) and len(decoded) == 40


def test_catalogues_of_the_same_name_have_their_own_cache(tmp_path, tiny_catalogue, decoded):
    paths = [tiny_catalogue(tmp_path / name / "shop[1]", products, "kaggle") for name, products in [("a", 5), ("b", 7)]]
    for _ in range(2):
        found = [open_images(open_catalogue(path), SIZE, tmp_path / "cache") for path in paths]
        assert [len(each.pixels) for each in found] == [5, 7]
    assert len(decoded) == 12
    (paths[0] / "images" / "1000.jpg").write_bytes(JPEG)
    open_images(open_catalogue(paths[0]), SIZE, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 4  # old state removed in spite of the brackets


def test_an_interrupted_build_leaves_nothing(opened, monkeypatch, tmp_path):
    calls = []

    def failing(content, size):
        calls.append(content)
        if len(calls) > 10:
            raise KeyboardInterrupt
        return decode(content, size)

    with monkeypatch.context() as patch:
        patch.setattr(images, "decode", failing)
        with pytest.raises(KeyboardInterrupt):
            opened()
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(opened().pixels) == 20


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_half_a_cache_is_built_again(opened, tmp_path, decoded, suffix):
    first = opened()
    next((tmp_path / "cache").glob(f"*{suffix}")).unlink()
    assert same(opened(), first) and len(decoded) == 40


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("share", [0, 0.001, 0.9], ids=["empty", "short", "truncated"])
def test_a_broken_cache_is_built_again(opened, tmp_path, decoded, suffix, share):
    first = opened()
    before = first.pixels.copy()
    file = next((tmp_path / "cache").glob(f"*{suffix}"))
    content = file.read_bytes()
    file.unlink()  # the first one is still mapped
    file.write_bytes(content[: int(share * len(content))])
    after = opened()
    assert len(decoded) == 40 and np.array_equal(after.pixels, before)
    assert after.digests.tolist() == first.digests.tolist()


@pytest.mark.parametrize("at_once", [1, 7, 20])
def test_in_parallel_as_one_by_one(path, tmp_path, monkeypatch, at_once):
    (path.parent / "images" / "1004.jpg").write_bytes(b"broken")
    (path.parent / "images" / "1005.jpg").write_bytes(encoded(plain("RGB", (9, 9), RED), "PNG"))
    results = []
    monkeypatch.setattr(workers, "AT_ONCE", at_once)
    monkeypatch.setattr(workers, "cores", lambda: 4)
    for few in (1000, 0):  # in this process, in four
        monkeypatch.setattr(workers, "FEW", few)
        results.append(open_images(open_catalogue(path), SIZE, tmp_path / f"few are {few}"))
    assert same(*results)
    assert results[0].errors == {4: "cannot identify image file"}
    assert results[0].remarks == ["images are 32x24 (height x width), 1 of them are not"]


def test_parquet_without_bytes(tmp_path):
    rows = [{"id": n, "text": f"t{n}", "image": {"bytes": JPEG if n else None, "path": None}} for n in range(3)]
    catalogue = open_catalogue(write_parquet(tmp_path / "shop.parquet", rows))
    found = open_images(catalogue, SIZE, tmp_path / "cache")
    assert found.errors == {0: "no image bytes"} and found.digests[0] == 0
    assert found.digests[1] == found.digests[2] != 0 and (found.pixels[0] == 255).all()


def test_broken_images_are_reported_and_left_out(path, tmp_path, monkeypatch, capsys):
    for name, content in [("1004", b""), ("1005", JPEG[:-20]), ("1006", JPEG[:-30])]:
        (path.parent / "images" / f"{name}.jpg").write_bytes(content)
    monkeypatch.setattr(images.open_images, "__defaults__", (tmp_path / "cache", "disk"))
    data = load_data(CatalogueOptions(data=path), SIZE, sample=lambda: path)
    assert not {"1004", "1005", "1006"} & set(data.catalogue.rows["product"]) and len(data.catalogue.rows) == 17
    lines = capsys.readouterr().out.splitlines()
    assert "  left out 1 row: image cannot be decoded: cannot identify image file (line 6)" in lines
    assert "  left out 2 rows: image cannot be decoded: image file is truncated (line 7; line 8)" in lines
    with pytest.raises(ValueError, match=r"3 rows cannot be used, and --strict is given"):
        load_data(CatalogueOptions(data=path, strict=True), SIZE, sample=lambda: path)


def test_strict_refuses_a_photograph_that_a_product_has_twice(path, tmp_path, monkeypatch):
    (path.parent / "again.jpg").write_bytes((path.parent / "images" / "1004.jpg").read_bytes())
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    again = next(line for line in lines if "1004.jpg" in line).replace("images/1004.jpg", "again.jpg")
    path.write_text("\n".join([header, *lines, again]), encoding="utf-8")
    monkeypatch.setattr(images.open_images, "__defaults__", (tmp_path / "cache", "disk"))
    assert len(load_data(CatalogueOptions(data=path), SIZE, sample=lambda: path).catalogue.rows) == 20
    with pytest.raises(ValueError, match=r"1 row cannot be used, and --strict is given"):
        load_data(CatalogueOptions(data=path, strict=True), SIZE, sample=lambda: path)


@pytest.mark.parametrize(("mode", "white"), [("I", 65535), ("F", 1.0)])
def test_an_image_whose_white_nobody_knows_is_reported(mode, white):
    _, _, found = images.read_image(encoded(plain(mode, (24, 32), white), "TIFF"), SIZE)
    assert "of which nobody knows what is white" in found


# --- augmentation --------------------------------------------------------------------------------------------


def coordinates(count: int, height: int = 20, width: int = 30) -> torch.Tensor:
    """(B, 3, H, W): each pixel holds its row, its column and the number of its image."""
    grid = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    numbered = torch.cat([grid, torch.zeros(1, height, width)]).repeat(count, 1, 1, 1)
    numbered[:, 2] = torch.arange(count)[:, None, None]
    return numbered.to(torch.uint8)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_without_flip_and_shift_nothing_changes():
    batch = coordinates(8)
    assert torch.equal(augment(batch, flip=False, shift=0), batch)
    assert torch.equal(augment(batch, flip=False, shift=0.01), batch)  # less than half a pixel


def test_flip_mirrors_half_of_the_images_exactly():
    batch = coordinates(200)
    result = augment(batch, flip=True, shift=0)
    mirrored = (result == batch.flip(3)).all(dim=(1, 2, 3))
    unchanged = (result == batch).all(dim=(1, 2, 3))
    assert (mirrored ^ unchanged).all()
    assert 70 < mirrored.sum() < 130


def test_shift_moves_by_up_to_its_share_and_repeats_the_border():
    batch = coordinates(300)
    result = augment(batch, flip=False, shift=0.1).long()
    down = result[:, 0, 10, 0] - 10  # which row stands at row 10
    right = result[:, 1, 0, 15] - 15
    assert set(down.tolist()) == set(range(-2, 3)) and set(right.tolist()) == set(range(-3, 4))
    rows = (torch.arange(20) + down[:, None]).clamp(0, 19)
    columns = (torch.arange(30) + right[:, None]).clamp(0, 29)
    assert torch.equal(result[:, 0], rows[:, :, None].expand(-1, -1, 30))
    assert torch.equal(result[:, 1], columns[:, None, :].expand(-1, 20, -1))
    assert torch.equal(result[:, 2], batch[:, 2].long())


def test_a_mirrored_image_is_shifted_after_it_was_mirrored():
    batch = coordinates(300)
    result = augment(batch, flip=True, shift=0.1).long()
    mirrored = result[:, 1, 0, 20] < result[:, 1, 0, 10]
    middle = result[:, 1, 0, 15]  # of 30 columns; mirrored it is the 14th
    right = torch.where(mirrored, 14 - middle, middle - 15)
    assert 110 < mirrored.sum() < 190 and set(right[mirrored].tolist()) == set(range(-3, 4))
    before = torch.where(mirrored[:, None, None], batch[:, 1].flip(2), batch[:, 1]).long()
    columns = (torch.arange(30) + right[:, None]).clamp(0, 29)
    assert torch.equal(result[:, 1], before.gather(2, columns[:, None, :].expand(-1, 20, -1)))
    assert torch.equal(result[:, 2], batch[:, 2].long())


def test_augmentation_keeps_its_input_and_repeats_under_a_seed():
    batch = coordinates(16)
    kept = batch.clone()
    first, third = augment(batch, True, 0.2), augment(batch, True, 0.2)
    torch.manual_seed(0)
    second = augment(batch, True, 0.2)
    assert first.dtype == torch.uint8 and first.shape == batch.shape and torch.equal(batch, kept)
    assert torch.equal(first, second) and not torch.equal(first, third)


def test_postscript_is_not_run(tmp_path, monkeypatch):
    """Pillow would hand it to Ghostscript, where that is installed."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "EPS")
    assert read_image(file.getvalue(), (8, 8))[2] == "PostScript is a program, not a picture"
    assert not (tmp_path / "ran").exists()

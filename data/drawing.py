"""Tools to draw the sample catalogue: colours, a canvas, patterns of fabric, studio light.

Shapes are given in a square of 100 x 100 units, drawn large and scaled down.
"""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 112
PIXELS = 3 * SIDE  # drawn at three times the size, for smooth edges
UNIT = PIXELS / 100

Colour = tuple[int, int, int]
Points = list[tuple[float, float]]

BLACK, WHITE, STEEL, GOLD, RUBBER = (0, 0, 0), (255, 255, 255), (176, 182, 190), (214, 170, 60), (58, 52, 50)
COLOURS: dict[str, Colour] = {
    "Black": (36, 36, 40),
    "White": (248, 248, 246),
    "Grey": (142, 144, 148),
    "Navy Blue": (28, 40, 88),
    "Blue": (46, 104, 200),
    "Turquoise Blue": (72, 200, 212),
    "Teal": (12, 112, 116),
    "Green": (48, 152, 72),
    "Olive": (104, 108, 48),
    "Yellow": (248, 216, 56),
    "Mustard": (204, 148, 28),
    "Orange": (242, 122, 36),
    "Red": (212, 34, 42),
    "Maroon": (112, 20, 44),
    "Pink": (244, 140, 178),
    "Purple": (118, 60, 152),
    "Brown": (112, 68, 40),
    "Beige": (222, 202, 166),
}
LIGHT_ACCENTS = [(250, 248, 240), (250, 226, 140), (188, 222, 244), (246, 196, 206)]
DARK_ACCENTS = [(30, 40, 86), (140, 24, 44), (20, 84, 62), (40, 40, 44)]

MARK_COLOURS: dict[str, Colour] = {
    "red": (220, 30, 40),
    "blue": (30, 90, 210),
    "green": (30, 150, 70),
    "orange": (245, 130, 20),
    "black": (20, 20, 20),
}


class Look(NamedTuple):
    """All that a picture shows of a product; `mark` is the brand's label as "colour shape", or empty."""

    article: str
    gender: str
    colour: str
    pattern: str
    details: tuple[str, ...]
    mark: str = ""

    @property
    def feminine(self) -> bool:
        return self.gender in ("Women", "Girls")


def mix(a: Colour, b: Colour, share: float) -> Colour:
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))


def brightness(colour: Colour) -> float:
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def symmetric(*half: tuple[float, float]) -> Points:
    """The outline whose left half, from top to bottom, is given."""
    return [*half, *((100 - x, y) for x, y in reversed(half))]


def box(left: float, top: float, right: float, bottom: float) -> Points:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def ellipse(left: float, top: float, right: float, bottom: float) -> Points:
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = (left + right) / 2 + (right - left) / 2 * np.cos(turn)
    y = (top + bottom) / 2 + (bottom - top) / 2 * np.sin(turn)
    return list(zip(x, y, strict=True))


def star(x: float, y: float, radius: float, spikes: int = 5, inner: float = 0.45) -> Points:
    turn = np.arange(2 * spikes) * np.pi / spikes - np.pi / 2
    reach = np.where(np.arange(2 * spikes) % 2, inner, 1.0) * radius
    return list(zip(x + reach * np.cos(turn), y + reach * np.sin(turn), strict=True))


def rounded(points: Points, times: int) -> np.ndarray:
    """Chaikin's corner cutting of a closed outline; a point given twice stays nearly sharp."""
    outline = np.array(points, float)
    for _ in range(times):
        after = np.roll(outline, -1, axis=0)
        outline = np.stack([0.75 * outline + 0.25 * after, 0.25 * outline + 0.75 * after], 1).reshape(-1, 2)
    return outline


class Canvas:
    """A transparent picture with the product's fabric and the shades that go with it."""

    def __init__(self, look: Look, rng: Random):
        self.rng = rng
        self.colour = tuple(min(255, max(0, c + rng.randint(-9, 9))) for c in COLOURS[look.colour])
        dim = brightness(self.colour) < 70
        self.seam = mix(self.colour, WHITE, 0.28) if dim else mix(self.colour, BLACK, 0.3)
        self.inside = mix(self.colour, BLACK, 0.45)
        self.accent = rng.choice(DARK_ACCENTS if brightness(self.colour) > 130 else LIGHT_ACCENTS)
        self.image = Image.new("RGBA", (PIXELS, PIXELS))
        self.pen = ImageDraw.Draw(self.image)
        self.fabric = Image.new("RGB", (PIXELS, PIXELS), self.colour)
        PATTERNS[look.pattern](Fabric(self), rng)

    def shape(self, points: Points, paint: Colour | None = None, smooth: int = 2, edge: bool = True) -> None:
        """Fill a rounded outline with a colour, or with the fabric if none is given."""
        outline = [tuple(p) for p in rounded(points, smooth) * UNIT]
        if paint:
            self.pen.polygon(outline, (*paint, 255))
        else:
            mask = Image.new("1", (PIXELS, PIXELS))
            ImageDraw.Draw(mask).polygon(outline, 1)
            self.image.paste(self.fabric, mask=mask)
        if edge:
            self.pen.line([*outline, outline[0]], (*self.seam, 255), 2, joint="curve")

    def both(self, points: Points, paint: Colour | None = None, smooth: int = 2) -> None:
        """The shape and its mirror image."""
        self.shape(points, paint, smooth)
        self.shape([(100 - x, y) for x, y in points], paint, smooth)

    def line(self, *points: tuple[float, float], paint: Colour | None = None, width: float = 1) -> None:
        path = [(x * UNIT, y * UNIT) for x, y in points]
        self.pen.line(path, (*(paint or self.seam), 255), round(width * UNIT), joint="curve")

    def dots(self, *centres: tuple[float, float], paint: Colour, radius: float = 1.2) -> None:
        for x, y in centres:
            self.shape(ellipse(x - radius, y - radius, x + radius, y + radius), paint, 0)


class Fabric:
    """Draws on the fabric of a canvas, in its base colour and accents."""

    def __init__(self, canvas: Canvas):
        self.pen = ImageDraw.Draw(canvas.fabric)
        self.base, self.accent = canvas.colour, canvas.accent
        self.half = mix(self.base, self.accent, 0.5)
        self.second = canvas.rng.choice([(236, 92, 92), (250, 180, 40), (70, 160, 220), (120, 190, 90)])

    def fill(self, points: Points, paint: Colour) -> None:
        self.pen.polygon([(x * UNIT, y * UNIT) for x, y in points], paint)

    def dot(self, x: float, y: float, radius: float, paint: Colour) -> None:
        self.fill(ellipse(x - radius, y - radius, x + radius, y + radius), paint)


class Silhouette(NamedTuple):
    """How an article type is drawn, and where its brand's label sits."""

    paint: Callable[[Canvas, Look], None]
    label: tuple[float, float]


# ---------------------------------------------------------------- patterns


def solid(fabric: Fabric, rng: Random) -> None:
    pass


def striped(fabric: Fabric, rng: Random, step: float = 9, upright: bool = False) -> None:
    for start in np.arange(rng.uniform(-step, 0), 100, step):
        stripe = (start, -1, start + step * 0.45, 101) if upright else (-1, start, 101, start + step * 0.45)
        fabric.fill(box(*stripe), fabric.accent)


def checked(fabric: Fabric, rng: Random) -> None:
    lines = np.arange(rng.uniform(-12, 0), 100, 12)
    for start in lines:
        fabric.fill(box(-1, start, 101, start + 5), fabric.half)
        fabric.fill(box(start, -1, start + 5, 101), fabric.half)
    for x in lines:
        for y in lines:
            fabric.fill(box(x, y, x + 5, y + 5), fabric.accent)


def scattered(step: float, rng: Random) -> Points:
    """A staggered grid over the whole fabric."""
    shift = rng.uniform(0, step)
    rows = range(-1, int(100 / step) + 2)
    return [((i + 0.5 * (j % 2)) * step + shift, j * step * 0.8 + shift) for j in rows for i in rows]


def polka(fabric: Fabric, rng: Random) -> None:
    for x, y in scattered(9.5, rng):
        fabric.dot(x, y, 2.5, fabric.accent)


def floral(fabric: Fabric, rng: Random) -> None:
    for x, y in scattered(15, rng):
        x, y, turn = x + rng.uniform(-2, 2), y + rng.uniform(-2, 2), rng.uniform(0, 6)
        fabric.fill(ellipse(x + 3, y + 3, x + 9, y + 6), (84, 150, 80))
        for petal in np.arange(5) * 2 * np.pi / 5 + turn:
            fabric.dot(x + 3.1 * np.cos(petal), y + 3.1 * np.sin(petal), 2.3, fabric.accent)
        fabric.dot(x, y, 1.9, fabric.second)


def graphic(fabric: Fabric, rng: Random) -> None:
    motif = rng.randrange(4)
    if motif == 0:
        fabric.fill(star(50, 46, 13), fabric.accent)
    elif motif == 1:
        fabric.dot(50, 45, 12, fabric.accent)
        fabric.fill([(39, 50), (46, 40), (50, 46), (54, 42), (61, 50), (50, 56)], fabric.second)
    elif motif == 2:
        fabric.fill([(54, 32), (41, 48), (49, 48), (45, 60), (60, 43), (52, 43)], fabric.second)
    else:
        for number, row in enumerate((36, 42, 48, 54)):
            paint = fabric.second if number % 2 else fabric.accent
            fabric.fill(box(37 + 2 * (number == 2), row, 63 - 4 * (number == 3), row + 4), paint)


def blocked(fabric: Fabric, rng: Random) -> None:
    edge = rng.uniform(42, 48)
    fabric.fill(box(-1, edge, 101, 101), fabric.accent)


def camouflage(fabric: Fabric, rng: Random) -> None:
    shades = [mix(fabric.base, BLACK, 0.5), mix(fabric.base, WHITE, 0.45), mix(fabric.base, (90, 70, 40), 0.6)]
    for x, y in scattered(11, rng):
        outline = star(x, y, rng.uniform(6, 10), rng.choice((3, 4)), rng.uniform(0.5, 0.8))
        fabric.fill([tuple(p) for p in rounded(outline, 2)], rng.choice(shades))


def chevron(fabric: Fabric, rng: Random) -> None:
    for start in np.arange(rng.uniform(-12, 0), 110, 12):
        crest = [(x, start + (5 if i % 2 else 0)) for i, x in enumerate(np.arange(-2, 108, 7))]
        fabric.fill(crest + [(x, y + 4.5) for x, y in reversed(crest)], fabric.accent)


PATTERNS: dict[str, Callable] = {
    "Solid": solid,
    "Striped": striped,
    "Pinstriped": partial(striped, step=5.5, upright=True),
    "Checked": checked,
    "Polka Dot": polka,
    "Floral": floral,
    "Graphic Print": graphic,
    "Colourblocked": blocked,
    "Camouflage": camouflage,
    "Chevron": chevron,
}

# ---------------------------------------------------------------- studio


def stamp(canvas: Canvas, mark: str, spot: tuple[float, float]) -> None:
    """The brand's label, on a small white tag so that it shows on every fabric."""
    if not mark:
        return
    colour, form = mark.split()
    x, y = spot
    canvas.shape(box(x - 4.5, y - 4.5, x + 4.5, y + 4.5), WHITE, 1)
    outlines = {
        "disc": ellipse(x - 3, y - 3, x + 3, y + 3),
        "square": box(x - 2.8, y - 2.8, x + 2.8, y + 2.8),
        "bar": box(x - 4, y - 1.6, x + 4, y + 1.6),
        "star": star(x, y, 4),
    }
    canvas.shape(outlines[form], MARK_COLOURS[colour], 0, False)


def posed(picture: Image.Image, look: Look, rng: Random) -> Image.Image:
    """Turned, moved and scaled a little; children's sizes are smaller, women's narrower."""
    size = rng.uniform(0.9, 0.97) * (0.76 if look.gender in ("Boys", "Girls") else 1)
    width = size * (0.88 if look.feminine else 1)
    angle = np.radians(rng.uniform(-5, 5))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    inverse = np.diag([1 / width, 1 / size]) @ turn
    left, top, right, bottom = picture.getbbox()
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    target = np.array([50 + rng.uniform(-2, 2), 50 + rng.uniform(-2, 2)]) * UNIT
    start = middle - inverse @ target
    matrix = (*inverse[0], start[0], *inverse[1], start[1])
    picture = picture.convert("RGBa")  # premultiplied, so that edges do not darken
    picture = picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return picture.reduce(PIXELS // SIDE).convert("RGBA")


def lit(picture: Image.Image, rng: Random) -> Image.Image:
    """The product with soft folds and a shadow before a near-white background."""
    noise = np.random.default_rng(rng.getrandbits(32))
    folds = Image.fromarray(noise.integers(0, 256, (9, 7), np.uint8)).resize((SIDE, SIDE), Image.BICUBIC)
    side_light = np.linspace(*rng.choice([(0.06, -0.08), (-0.08, 0.06)]), SIDE)
    light = 1 + side_light + (np.asarray(folds, float) / 255 - 0.5) * 0.2
    alpha = picture.getchannel("A")
    shadow = np.asarray(alpha.filter(ImageFilter.GaussianBlur(4)), float) / 255
    shadow = np.roll(shadow, (4, rng.choice((-2, 2))), (0, 1))
    backdrop = rng.uniform(240, 252) * (1 - 0.3 * shadow)
    opaque = np.asarray(alpha, float)[..., None] / 255
    product = np.asarray(picture.convert("RGB"), float) * light[..., None]
    pixels = opaque * product + (1 - opaque) * backdrop[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def photograph(look: Look, silhouette: Silhouette, seed: str) -> Image.Image:
    """The picture of a product; the seed settles shade, pattern, pose and light."""
    rng = Random(seed)
    canvas = Canvas(look, rng)
    silhouette.paint(canvas, look)
    stamp(canvas, look.mark, silhouette.label)
    return lit(posed(canvas.image, look, rng), rng)

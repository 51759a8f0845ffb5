"""The silhouettes of clothes; GARMENTS has the one of every article type."""

import numpy as np

from data.drawing import (
    BLACK,
    GOLD,
    RUBBER,
    STEEL,
    WHITE,
    Canvas,
    Look,
    Silhouette,
    box,
    brightness,
    ellipse,
    mix,
    symmetric,
)

# ---------------------------------------------------------------- tops


def sleeves(canvas: Canvas, look: Look) -> None:
    cuffs = {
        "Short Sleeve": ((14, 38), (23, 45)),
        "Three-Quarter Sleeve": ((10, 55), (19, 59)),
        "Long Sleeve": ((7, 74), (16, 77)),
    }
    if "Puff Sleeve" in look.details:
        canvas.both(ellipse(17, 17, 40, 41))
    for outer, inner in (cuff for word, cuff in cuffs.items() if word in look.details):
        canvas.both([(44, 14), (30, 18), outer, outer, inner, inner, (36, 40)])
        if look.article in ("Sweaters", "Sweatshirts", "Jackets", "Shirts"):
            canvas.both([(outer[0] + 0.7, outer[1] - 4), (inner[0] + 0.9, inner[1] - 4), inner, outer], canvas.seam, 0)


def neckline(canvas: Canvas, look: Look) -> None:
    details, inside = look.details, canvas.inside
    if "Hooded" in details:
        canvas.shape(symmetric((50, 2), (36, 3), (33, 20), (50, 29)))
        canvas.shape(ellipse(40, 8, 60, 25), inside, 0)
        for x in (45, 55):
            canvas.line((x, 25), (x, 38), paint=WHITE if brightness(canvas.colour) < 200 else BLACK)
    elif "V-Neck" in details:
        canvas.shape(symmetric((42, 12), (42, 12), (50, 31)), inside, 1)
    elif "Square Neck" in details:
        canvas.shape(symmetric((40, 12), (40, 12), (41, 24), (41, 24)), inside, 1)
    elif "High Neck" in details:
        canvas.shape(symmetric((42, 5), (42, 5), (40, 18), (46, 20)))
        canvas.line((41, 9), (59, 9))
    elif "Mandarin Collar" in details:
        canvas.shape(symmetric((43, 9), (43, 9), (41, 16), (49, 21)), inside, 1)
        canvas.both([(42, 8), (45, 9), (50, 20), (48, 22), (40, 15)], None, 1)
    elif "Round Neck" in details:
        canvas.shape(ellipse(40, 9, 60, 22), canvas.seam, 0)
        canvas.shape(ellipse(42, 9, 58, 19), inside, 0)
    else:
        canvas.shape(symmetric((43, 10), (43, 10), (50, 24)), inside, 1)
        canvas.both([(42, 8), (44, 9), (50, 20), (45, 28), (36, 16)], None, 1)


def torso(canvas: Canvas, look: Look, hem: float, flare: float = 0, waist_at: float = 54) -> None:
    waist = 36 if look.feminine else 31
    sleeves(canvas, look)
    if "Sleeveless" in look.details:
        half = [(42, 14), (42, 14), (36, 16), (36, 16), (37, 30), (32, 39)]
    else:
        half = [(43, 13), (43, 13), (31, 18), (32, 38)]
    canvas.shape(symmetric(*half, (waist, waist_at), (32 - flare, hem), (32 - flare, hem)))
    neckline(canvas, look)


def placket(canvas: Canvas, top: float, bottom: float, buttons: int) -> None:
    canvas.line((50, top), (50, bottom))
    paint = WHITE if brightness(canvas.colour) < 170 else RUBBER
    canvas.dots(*((50, y) for y in np.linspace(top + 3, bottom - 3, buttons)), paint=paint)


def rib(canvas: Canvas, hem: float) -> None:
    canvas.shape(box(32.5, hem - 5, 67.5, hem), canvas.seam, 0)


def tshirt(canvas: Canvas, look: Look) -> None:
    torso(canvas, look, 82)
    if "Polo Collar" in look.details:
        placket(canvas, 22, 38, 3)
    if "Pocket" in look.details:
        canvas.shape(box(54, 34, 64, 46), canvas.seam, 0)


def shirt(canvas: Canvas, look: Look) -> None:
    torso(canvas, look, 84)
    placket(canvas, 21, 83, 6)
    if "Pocket" in look.details:
        canvas.shape([(54, 34), (65, 34), (65, 45), (59.5, 48), (54, 45)], canvas.seam, 0)


def blouse(canvas: Canvas, look: Look) -> None:
    torso(canvas, look, 56 if "Crop" in look.details else 72, 3)
    if "Peplum" in look.details:
        canvas.shape(symmetric((36, 56), (36, 56), (25, 74), (25, 74), (50, 78)))


def sweater(canvas: Canvas, look: Look) -> None:
    torso(canvas, look, 82)
    rib(canvas, 82)
    if "Cable Knit" in look.details:
        for x in (38, 46, 54, 62):
            canvas.line(*((x + (2 if i % 2 else -2), y) for i, y in enumerate(range(34, 76, 4))), width=1.4)


def sweatshirt(canvas: Canvas, look: Look) -> None:
    torso(canvas, look, 82)
    rib(canvas, 82)
    if "Kangaroo Pocket" in look.details:
        canvas.shape(symmetric((42, 58), (42, 58), (36, 68), (36, 75), (36, 75)), canvas.seam, 0)
    if "Zip" in look.details:
        canvas.line((50, 25), (50, 81), paint=STEEL, width=2)


def jacket(canvas: Canvas, look: Look) -> None:
    torso(canvas, look, 78)
    if "Quilted" in look.details:
        for y in range(34, 72, 8):
            canvas.line((33, y), (67, y), width=1.3)
    rib(canvas, 78)
    canvas.line((50, 22), (50, 78), paint=STEEL, width=2.4)
    canvas.both([(36, 56), (38, 55), (44, 64), (42, 65)], canvas.inside, 0)


def blazer(canvas: Canvas, look: Look) -> None:
    torso(canvas, look, 84)
    canvas.shape(symmetric((43, 11), (43, 11), (50, 54)), WHITE, 0)
    canvas.both([(42, 11), (37, 14), (35, 27), (40, 29), (39, 32), (50, 56)], None, 0)
    canvas.line((50, 55), (47, 84))
    canvas.both([(35, 64), (44, 64), (44, 67), (35, 67)], canvas.seam, 0)
    rows, columns = ((58, 66), (45, 55)) if "Double Breasted" in look.details else ((59, 66), (50,))
    canvas.dots(*((x, y) for x in columns for y in rows), paint=GOLD, radius=1.6)


def kurta(canvas: Canvas, look: Look) -> None:
    torso(canvas, look, 95, 3)
    placket(canvas, 21, 44, 3)
    canvas.both([(32, 70), (33.5, 70), (31, 95), (29, 95)], canvas.inside, 0)
    if "Embroidered" in look.details:
        canvas.line(*((x, 90) for x in (31, 69)), paint=GOLD, width=3.5)
        for side in (-1, 1):
            canvas.line((50 + side * 9, 16), (50 + side * 7, 30), (50 + side * 2, 47), paint=GOLD, width=2.4)


def dress(canvas: Canvas, look: Look) -> None:
    hem = 99 if "Maxi" in look.details else 88 if "Midi" in look.details else 76
    if "Bodycon" in look.details:
        torso(canvas, look, hem, -2, 46)
    else:
        torso(canvas, look, hem, 15, 46)
        for x in (40, 50, 60):
            canvas.line((50 + (x - 50) * 0.6, 54), (50 + (x - 50) * 1.8, hem - 3), width=0.8)
    if "Belted" in look.details:
        canvas.shape(box(35, 44, 65, 49), canvas.accent, 0)


# ---------------------------------------------------------------- ethnic wear and bottoms


def saree(canvas: Canvas, look: Look) -> None:
    border = STEEL if "Silver Border" in look.details else GOLD
    canvas.shape([(60, 14), (68, 14), (82, 82), (82, 82), (64, 82), (64, 82)])
    canvas.shape(box(64.5, 77, 81.5, 83), border, 0)
    canvas.both([(42, 11), (42, 11), (34, 13), (27, 30), (27, 30), (34, 33), (34, 33), (38, 22)], canvas.accent)
    canvas.shape(symmetric((43, 11), (43, 11), (35, 14), (37, 34), (37, 34)), canvas.accent)
    canvas.shape(symmetric((44, 10), (44, 10), (50, 22)), canvas.inside, 1)
    canvas.shape(symmetric((38, 42), (38, 42), (32, 56), (24, 96), (24, 96)))
    canvas.shape(symmetric((25, 90), (24, 96)), border, 0)
    for x in range(44, 58, 3):
        canvas.line((x, 52), (x - 2, 90), width=0.8)
    canvas.shape([(34, 56), (33, 46), (58, 11), (58, 11), (68, 12), (68, 12), (66, 34), (42, 60)])
    canvas.line((36, 59), (43, 59), (66, 34), (68, 12), paint=border, width=3.4)


def lehenga(canvas: Canvas, look: Look) -> None:
    border = STEEL if "Silver Border" in look.details else GOLD
    canvas.both([(42, 10), (35, 12), (27, 25), (36, 29)], canvas.accent)
    canvas.shape(symmetric((42, 9), (42, 9), (36, 12), (38, 34), (38, 34)), canvas.accent)
    canvas.shape(symmetric((43, 8), (43, 8), (50, 19)), canvas.inside, 1)
    canvas.shape(symmetric((40, 42), (40, 42), (30, 56), (10, 92), (10, 92), (50, 98)))
    for x in (26, 38, 50, 62, 74):
        canvas.line((50 + (x - 50) * 0.3, 46), (x, 90), width=0.8)
    canvas.line((13, 89), (30, 93), (50, 94.5), (70, 93), (87, 89), paint=border, width=4)
    canvas.shape(box(40, 40, 60, 44), border, 0)


def skirt(canvas: Canvas, look: Look) -> None:
    hem = 94 if "Maxi" in look.details else 76 if "Midi" in look.details else 56
    if "Pencil" in look.details:
        canvas.shape(symmetric((36, 14), (36, 14), (29, 34), (33, hem), (33, hem)))
        canvas.line((50, hem - 12), (50, hem), width=1.4)
    else:
        canvas.shape(symmetric((37, 14), (37, 14), (18, hem), (18, hem), (50, hem + 4)))
    if "Pleated" in look.details:
        for x in range(26, 76, 6):
            canvas.line((50 + (x - 50) * 0.45, 19), (50 + (x - 50) * 1.2, hem), width=1.4)
    canvas.shape(box(36, 12, 64, 18), canvas.seam, 0)


def trousers(canvas: Canvas, look: Look) -> None:
    details = look.details
    hem = 93
    if look.article == "Shorts":
        hem = 62 if "Knee Length" in details else 48
    outer, inner = 28, 44
    if "Skinny Fit" in details:
        outer, inner = 34, 44
    elif "Flared" in details:
        outer, inner = 21, 46
    knee = (32, 60) if hem > 80 else (29, 40)
    hips = (29 if look.feminine else 31, 28)
    canvas.shape(
        symmetric(
            (35, 8), (35, 8), hips, knee, (outer, hem), (outer, hem), (inner, hem), (inner, hem), (49, 36), (49, 36)
        ),
        None,
        1,
    )
    canvas.shape(box(34, 7, 66, 12), canvas.seam, 0)
    canvas.line((50, 12), (50, 34), width=0.8)
    trouser_details(canvas, look, outer, inner, hem)


def trouser_details(canvas: Canvas, look: Look, outer: float, inner: float, hem: float) -> None:
    details = look.details
    if look.article == "Jeans":
        canvas.both([(36, 13), (43, 13), (40, 20), (34, 21)], canvas.inside, 1)
        canvas.line((48, 13), (48, 27), (50, 30), paint=GOLD)
        canvas.dots((50, 9.5), paint=GOLD)
    if "Side Stripe" in details:
        for side in (0, 1):
            path = [(34, 14), (32.5, 28), (33.5, 60), (outer + 2.5, hem)] if hem > 80 else [(34, 14), (outer + 2, hem)]
            canvas.line(*((100 - x if side else x, y) for x, y in path), paint=canvas.accent, width=2.6)
    if "Drawstring" in details:
        canvas.line((47, 10), (44, 24), paint=canvas.accent, width=1.4)
        canvas.line((53, 10), (56, 24), paint=canvas.accent, width=1.4)
    if "Cargo" in details:
        canvas.both([(29, 50), (38, 50), (38, 63), (29, 63)] if hem > 80 else box(29, 33, 38, 44), canvas.seam, 0)
    if "Ripped" in details:
        for y in (48, 52, 68):
            canvas.both(box(35, y, 43, y + 2.4), (236, 232, 226), 1)
    if "Washed" in details:
        pale = mix(canvas.colour, WHITE, 0.45)
        canvas.both(ellipse(35, 32, 42, 60), pale, 0)
    if look.article == "Track Pants":
        canvas.both([(outer - 1, hem - 5), (inner + 1, hem - 5), (inner, hem), (outer, hem)], canvas.seam, 0)
    if "Pleated" in details:
        canvas.both([(38, 14), (39, 14), ((outer + inner) / 2 + 0.5, hem), ((outer + inner) / 2, hem)], canvas.seam, 0)


GARMENTS: dict[str, Silhouette] = {
    "Tshirts": Silhouette(tshirt, (40, 36)),
    "Shirts": Silhouette(shirt, (40, 38)),
    "Tops": Silhouette(blouse, (41, 40)),
    "Sweaters": Silhouette(sweater, (40, 38)),
    "Sweatshirts": Silhouette(sweatshirt, (40, 38)),
    "Jackets": Silhouette(jacket, (40, 38)),
    "Blazers": Silhouette(blazer, (62, 40)),
    "Kurtas": Silhouette(kurta, (40, 40)),
    "Dresses": Silhouette(dress, (43, 36)),
    "Sarees": Silhouette(saree, (66, 24)),
    "Lehenga Choli": Silhouette(lehenga, (50, 27)),
    "Skirts": Silhouette(skirt, (58, 26)),
    "Jeans": Silhouette(trousers, (62, 26)),
    "Trousers": Silhouette(trousers, (62, 26)),
    "Shorts": Silhouette(trousers, (62, 26)),
    "Track Pants": Silhouette(trousers, (62, 26)),
}

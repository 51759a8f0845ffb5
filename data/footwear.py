"""The silhouettes of shoes, seen from the side or from above; FOOTWEAR has the one of every article type."""

from data.drawing import (
    BLACK,
    GOLD,
    RUBBER,
    STEEL,
    WHITE,
    Canvas,
    Colour,
    Look,
    Points,
    Silhouette,
    box,
    brightness,
    ellipse,
    mix,
)


def laces(canvas: Canvas, points: Points, paint: Colour = WHITE) -> None:
    for x, y in points:
        canvas.line((x - 3, y - 3), (x + 5, y + 2.5), paint=paint, width=1.8)


def sneaker(canvas: Canvas, look: Look) -> None:
    high = 22 if "High Top" in look.details else 38
    sport = look.article == "Sports Shoes"
    canvas.shape(
        [
            (8, 68),
            (8, 60),
            (22, 55),
            (44, 45),
            (52, high),
            (52, high),
            (82, high),
            (86, high + 4),
            (86, 50),
            (92, 68),
            (92, 68),
        ]
    )
    canvas.shape([(8, 68), (8, 60), (20, 56), (28, 68)], canvas.seam)
    sole = WHITE if brightness(canvas.colour) < 215 else RUBBER
    if sport:
        canvas.shape([(5, 66), (5, 66), (60, 66), (84, 60), (95, 62), (97, 78), (90, 81), (12, 79)], sole)
        canvas.line((10, 76), (94, 77), paint=canvas.accent, width=2)
        canvas.shape([(44, 62), (56, 62), (76, 42), (70, 42)], canvas.accent, 1)
        canvas.shape([(56, 64), (64, 62), (82, 46), (77, 45)], canvas.accent, 1)
    else:
        canvas.shape([(6, 66), (6, 66), (94, 66), (94, 66), (93, 75), (8, 75)], sole)
    canvas.shape(ellipse(53, high - 3, 84, high + 4), canvas.inside, 0)
    if "Slip-On" in look.details:
        canvas.shape([(46, 46), (56, 44), (60, 60), (50, 62)], canvas.inside, 1)
    elif "Velcro" in look.details:
        canvas.shape([(40, 46), (47, 42), (66, 55), (60, 61)], canvas.accent, 1)
        canvas.shape([(48, 39), (54, 36), (72, 48), (67, 54)], canvas.accent, 1)
    else:
        paint = WHITE if brightness(canvas.colour) < 200 else RUBBER
        laces(canvas, [(34 + 5 * i, 53 - 3.4 * i) for i in range(4)], paint)
        if high < 30:
            laces(canvas, [(52, 39), (53, 33), (53, 27)], paint)


def formal_shoe(canvas: Canvas, look: Look) -> None:
    canvas.shape(
        [(4, 70), (4, 58), (16, 53), (34, 52), (50, 42), (56, 36), (84, 34), (84, 34), (90, 50), (91, 70), (91, 70)]
    )
    canvas.shape([(3, 68), (3, 68), (92, 68), (92, 68), (92, 79), (92, 79), (70, 79), (67, 73), (7, 73)], RUBBER, 1)
    canvas.shape(ellipse(55, 31, 85, 40), canvas.inside, 0)
    if "Lace-Up" in look.details:
        laces(canvas, [(40 + 6 * i, 51 - 4.5 * i) for i in range(3)], canvas.accent)
        canvas.line((22, 53), (30, 67), width=2)
    elif "Buckle" in look.details:
        canvas.shape([(42, 46), (52, 40), (76, 62), (68, 67)], canvas.seam, 1)
        canvas.shape(box(60, 50, 71, 60), GOLD, 0)
    else:
        canvas.shape([(28, 54), (48, 42), (54, 48), (44, 66), (36, 68)], canvas.seam)
        canvas.line((32, 57), (50, 50), width=3, paint=GOLD)


def heel(canvas: Canvas, look: Look) -> None:
    if "Wedge" in look.details:
        canvas.shape([(8, 84), (22, 76), (56, 62), (78, 42), (86, 42), (90, 84), (90, 84), (12, 86)], (196, 160, 112))
    elif "Block Heel" in look.details:
        canvas.shape([(72, 44), (88, 40), (90, 85), (90, 85), (76, 85), (76, 85)], canvas.seam, 1)
    else:
        canvas.shape([(76, 46), (88, 40), (86, 62), (86, 85), (86, 85), (83, 85), (83, 85), (82, 62)], canvas.seam, 1)
    canvas.shape([(4, 84), (4, 80), (22, 74), (54, 60), (74, 42), (88, 40), (84, 48), (58, 70), (30, 85)], RUBBER)
    if "Ankle Strap" in look.details:
        canvas.shape([(6, 80), (14, 74), (28, 70), (38, 74), (34, 80), (18, 83)])
        canvas.shape([(72, 44), (70, 36), (86, 24), (90, 26), (88, 42), (80, 50)])
        canvas.line((62, 27), (88, 25), paint=canvas.colour, width=4)
        canvas.line((62, 27), (62, 33), (86, 32), paint=canvas.colour, width=3)
    else:
        canvas.shape([(4, 82), (6, 77), (24, 68), (34, 62), (56, 56), (72, 34), (88, 30), (90, 42), (60, 66), (30, 83)])
        canvas.shape([(34, 62), (56, 56), (72, 35), (84, 32), (70, 44), (54, 62)], canvas.inside)


def boot(canvas: Canvas, look: Look) -> None:
    top = 8 if "Knee High" in look.details else 38
    canvas.shape(
        [
            (10, 82),
            (10, 72),
            (28, 66),
            (46, 58),
            (48, top),
            (48, top),
            (80, top),
            (80, top),
            (80, 60),
            (84, 82),
            (84, 82),
        ]
    )
    foot = 90 if look.feminine else 86
    canvas.shape([(9, 80), (9, 80), (85, 80), (85, 80), (84, foot), (66, foot), (64, 85), (12, 85)], RUBBER, 1)
    canvas.shape(box(48, top, 80, top + 5), canvas.seam, 0)
    if "Lace-Up" in look.details:
        laces(canvas, [(49, y) for y in range(max(top + 12, 24), 62, 7)], GOLD)
    elif "Zip" in look.details:
        canvas.line((68, top + 5), (68, 76), paint=STEEL, width=3)
    else:
        canvas.line((47, 60), (81, 62), paint=canvas.seam, width=4)
        canvas.shape(box(60, 57, 70, 66), GOLD, 1)


def sandal(canvas: Canvas, look: Look) -> None:
    seen_from_above(canvas, (196, 158, 112))
    if "Strappy" in look.details:
        for top in (20, 32, 44):
            canvas.both([(13, top), (13, top), (46, top + 6), (46, top + 6), (46, top + 12), (13, top + 6)], None, 0)
    else:
        canvas.both([(13, 26), (46, 30), (45, 48), (15, 44)], None, 0)
    if "Buckle" in look.details:
        canvas.both([(16, 66), (44, 62), (44, 70), (17, 74)], None, 0)
        canvas.both(box(16, 64, 25, 76), GOLD, 0)


def seen_from_above(canvas: Canvas, paint: Colour | None) -> None:
    canvas.both(
        [(28, 8), (40, 12), (46, 30), (42, 56), (44, 82), (36, 94), (22, 92), (18, 78), (18, 52), (13, 28), (17, 12)],
        paint,
    )


def flip_flop(canvas: Canvas, look: Look) -> None:
    seen_from_above(canvas, None)
    strap = canvas.accent
    for mirrored in (False, True):
        path = [(15, 48), (19, 36), (29, 25), (38, 36), (43, 50)]
        canvas.line(*((100 - x if mirrored else x, y) for x, y in path), paint=strap, width=5)
    canvas.dots((29, 25), (71, 25), paint=mix(strap, BLACK, 0.3), radius=2.4)


def flat(canvas: Canvas, look: Look) -> None:
    seen_from_above(canvas, None)
    canvas.both([(30, 36), (38, 42), (38, 80), (30, 88), (22, 80), (20, 44)], (226, 200, 164))
    if "Bow" in look.details:
        canvas.both([(30, 30), (19, 23), (19, 37), (30, 30), (41, 37), (41, 23)], canvas.accent, 1)
    elif "Buckle" in look.details:
        canvas.both(box(25, 22, 35, 32), GOLD, 1)
        canvas.both(box(28, 25, 32, 29), canvas.colour, 1)
    else:
        canvas.both([(14, 52), (44, 52), (44, 59), (16, 59)], None, 1)


# ---------------------------------------------------------------- accessories


FOOTWEAR: dict[str, Silhouette] = {
    "Casual Shoes": Silhouette(sneaker, (80, 56)),
    "Sports Shoes": Silhouette(sneaker, (86, 56)),
    "Formal Shoes": Silhouette(formal_shoe, (80, 58)),
    "Heels": Silhouette(heel, (80, 42)),
    "Boots": Silhouette(boot, (60, 46)),
    "Sandals": Silhouette(sandal, (30, 82)),
    "Flip Flops": Silhouette(flip_flop, (30, 78)),
    "Flats": Silhouette(flat, (30, 74)),
}

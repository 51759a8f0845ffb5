"""The silhouettes of bags and other accessories; ACCESSORIES has the one of every article type."""

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
    star,
    symmetric,
)


def handbag(canvas: Canvas, look: Look) -> None:
    if "Sling" in look.details:
        canvas.line((18, 54), (30, 12), (50, 4), (70, 12), (82, 54), paint=canvas.seam, width=3)
        canvas.shape(symmetric((18, 50), (18, 50), (16, 88), (24, 92)))
        canvas.shape(symmetric((17, 49), (17, 49), (19, 68), (50, 76)), canvas.seam)
        canvas.dots((50, 70), paint=GOLD, radius=3.5)
    elif "Tote" in look.details:
        canvas.line((34, 44), (37, 10), (63, 10), (66, 44), paint=canvas.seam, width=4)
        canvas.shape(symmetric((14, 36), (14, 36), (24, 92), (24, 92)), None, 1)
        canvas.line((15, 41), (85, 41), width=1.5)
        canvas.dots((34, 44), (66, 44), paint=GOLD, radius=2)
    else:
        canvas.line((32, 44), (33, 26), (50, 18), (67, 26), (68, 44), paint=canvas.seam, width=5)
        canvas.shape(symmetric((26, 42), (26, 42), (8, 82), (14, 88), (50, 88)))
        canvas.line((28, 47), (72, 47), paint=GOLD, width=2.4)
        canvas.line((26, 54), (22, 87), width=1.5)
        canvas.line((74, 54), (78, 87), width=1.5)


def clutch(canvas: Canvas, look: Look) -> None:
    canvas.shape(box(8, 36, 92, 80), None, 1)
    if "Envelope" in look.details:
        canvas.shape([(8, 36), (92, 36), (92, 36), (50, 66), (8, 36)], canvas.seam, 1)
    else:
        canvas.line((9, 38), (91, 38), paint=GOLD, width=4)
    if "Chain" in look.details:
        canvas.dots(
            *((50 + 36 * np.cos(t), 38 - 26 * np.sin(t)) for t in np.linspace(0, np.pi, 19)), paint=GOLD, radius=2
        )
    canvas.dots((50, 63 if "Envelope" in look.details else 36), paint=GOLD, radius=3.5)


def wallet(canvas: Canvas, look: Look) -> None:
    if "Zip Around" in look.details:
        canvas.shape(symmetric((12, 28), (12, 28), (12, 76), (12, 76)))
        canvas.line((88, 30), (14, 30), (14, 74), (86, 74), paint=GOLD, width=2.4)
        canvas.line((86, 32), (86, 52), paint=GOLD, width=3)
    else:
        canvas.shape(box(14, 24, 82, 66), canvas.inside, 0)
        for y, paint in ((26, (90, 150, 210)), (31, (230, 200, 90))):
            canvas.shape(box(20, y, 76, y + 20), paint, 0)
        canvas.shape(box(14, 38, 88, 80), None, 0)
        canvas.line((24, 44), (78, 44), (78, 74), (24, 74), (24, 44))


def backpack(canvas: Canvas, look: Look) -> None:
    canvas.line((43, 14), (44, 5), (56, 5), (57, 14), paint=canvas.seam, width=3)
    canvas.both([(28, 40), (20, 42), (18, 84), (28, 88)], canvas.seam)
    canvas.shape(symmetric((50, 9), (30, 10), (24, 34), (24, 92), (30, 94)))
    canvas.line((30, 34), (34, 22), (50, 17), (66, 22), (70, 34), paint=STEEL, width=1.6)
    canvas.shape(symmetric((31, 54), (31, 54), (31, 86), (34, 88)), canvas.seam)
    canvas.line((33, 60), (67, 60), paint=STEEL, width=2)
    if "Buckle" in look.details:
        canvas.shape(symmetric((27, 28), (27, 28), (26, 48), (50, 54)), canvas.accent)
        canvas.both(box(35, 44, 40, 68), GOLD, 1)


def watch(canvas: Canvas, look: Look) -> None:
    metal = "Metal Strap" in look.details
    strap = STEEL if metal else canvas.colour
    canvas.shape(symmetric((42, 2), (42, 2), (38, 30), (38, 70), (42, 98), (42, 98)), strap, 1)
    for y in (*range(5, 28, 5), *range(76, 98, 5)):
        canvas.line((40, y), (60, y), paint=mix(strap, BLACK, 0.35), width=1 if metal else 0.5)
    square = "Square Dial" in look.details
    for inset, paint in ((0, STEEL), (4, canvas.colour if metal else WHITE)):
        edges = (26 + inset, 26 + inset, 74 - inset, 74 - inset)
        canvas.shape(box(*edges) if square else ellipse(*edges), paint, 0)
    face = canvas.colour if metal else WHITE
    ink = WHITE if brightness(face) < 140 else RUBBER
    canvas.shape(box(74, 47, 78, 53), STEEL, 0)
    if "Digital" in look.details:
        canvas.shape(box(34, 40, 66, 60), (176, 192, 160), 0)
        for x in (38, 46, 54, 60):
            canvas.shape(box(x, 44, x + 3, 56), RUBBER, 0, False)
        return
    for hour in np.arange(12) * np.pi / 6:
        canvas.line(*((50 + r * np.cos(hour), 50 + r * np.sin(hour)) for r in (15, 18)), paint=ink, width=1.3)
    canvas.line((50, 38), (50, 50), (59, 55), paint=ink, width=2)
    if "Chronograph" in look.details:
        canvas.dots((43, 52), (57, 47), (50, 60), paint=mix(face, ink, 0.45), radius=4)


def belt(canvas: Canvas, look: Look) -> None:
    canvas.shape(ellipse(14, 18, 86, 74), None, 0)
    canvas.shape(ellipse(18, 18, 82, 56), canvas.inside, 0)
    canvas.shape(ellipse(21, 25, 79, 56), (250, 250, 250), 0)
    canvas.shape([(44, 57), (96, 54), (99, 62), (96, 72), (44, 75)], None, 1)
    canvas.dots(*((x, 64) for x in (72, 79, 86)), paint=canvas.inside, radius=1.3)
    if "Braided" in look.details:
        for x in range(20, 92, 6):
            canvas.line((x, 58), (x + 5, 73), width=1.4)
            canvas.line((x + 5, 58), (x, 73), width=1.4)
    metal = GOLD if "Gold Buckle" in look.details else STEEL
    canvas.shape(box(36, 52, 60, 80), metal, 0)
    canvas.shape(box(41, 57, 55, 75), canvas.colour, 0)
    canvas.line((48, 66), (60, 66), paint=metal, width=2.4)


def cap(canvas: Canvas, look: Look) -> None:
    canvas.shape([(22, 64), (22, 64), (24, 36), (46, 20), (72, 24), (88, 44), (90, 66), (90, 66)])
    canvas.line((52, 21), (46, 40), (46, 64))
    canvas.line((56, 21), (74, 40), (78, 65))
    canvas.dots((54, 21), paint=canvas.seam, radius=2.6)
    brim = canvas.accent if "Contrast Brim" in look.details else canvas.seam
    canvas.shape([(24, 58), (56, 62), (58, 68), (30, 72), (4, 80), (2, 76), (10, 64)], brim)


def hat(canvas: Canvas, look: Look) -> None:
    brim = 2 if "Wide Brim" in look.details else 16
    canvas.shape(ellipse(brim, 56, 100 - brim, 80), canvas.seam, 0)
    canvas.shape(symmetric((50, 27), (42, 20), (32, 24), (27, 66), (27, 66), (50, 72)))
    canvas.shape(symmetric((50, 60), (29, 55), (29, 55), (27, 66), (27, 66), (50, 72)), canvas.accent, 1)


def beanie(canvas: Canvas, look: Look) -> None:
    canvas.shape(symmetric((50, 20), (28, 24), (22, 66), (22, 66)))
    canvas.shape(symmetric((20, 60), (20, 60), (20, 78), (20, 78)), canvas.seam, 1)
    for x in range(25, 78, 6):
        canvas.line((x, 62), (x, 77), paint=canvas.colour, width=1.4)
    if "Pom-Pom" in look.details:
        canvas.shape(star(50, 17, 12, 12, 0.75), canvas.accent, 0)


def sunglasses(canvas: Canvas, look: Look) -> None:
    lens = [(50, 44), (46, 42), (22, 38), (10, 42), (12, 58), (22, 66), (36, 64), (46, 52)]
    if "Round" in look.details:
        lens = ellipse(12, 36, 45, 67)
    elif "Aviator" in look.details:
        lens = [(46, 42), (20, 38), (9, 42), (11, 60), (22, 72), (36, 68), (46, 52)]
    elif "Cat-Eye" in look.details:
        lens = [(46, 44), (20, 38), (0, 28), (10, 54), (22, 66), (38, 62), (46, 52)]
    centre = np.mean(lens, axis=0)
    thin = 0.86 if "Aviator" in look.details or "Round" in look.details else 0.72
    inner = [tuple(centre + thin * (np.array(p) - centre)) for p in lens]
    canvas.line((42, 46), (50, 43), (58, 46), paint=canvas.colour, width=3)
    canvas.both([(12, 42), (4, 38), (7, 34), (16, 40)], canvas.colour, 1)
    canvas.both(lens)
    glass = (150, 190, 214) if "Mirrored" in look.details else (52, 44, 46)
    canvas.both(inner, glass)
    for x in (20, 69):
        canvas.line((x, 56), (x + 8, 46), paint=mix(glass, WHITE, 0.45), width=1.6)


def tie(canvas: Canvas, look: Look) -> None:
    if "Bow" in look.details:
        canvas.both([(50, 46), (16, 32), (10, 36), (10, 64), (16, 68), (50, 54)])
        canvas.shape(box(43, 42, 57, 58), canvas.seam, 1)
        return
    wide = 8 if "Slim" in look.details else 15
    canvas.shape(symmetric((47, 12), (47, 12), (50 - wide, 80), (50 - wide, 80), (50, 96)), None, 1)
    canvas.shape(symmetric((41, 3), (41, 3), (46, 17), (46, 17)), None, 1)
    canvas.line((46, 17), (54, 17), width=1.6)


def scarf(canvas: Canvas, look: Look) -> None:
    for left, bottom in ((30, 84), (52, 76)):
        canvas.shape(
            [(left + 4, 30), (left + 17, 30), (left + 20, bottom), (left + 20, bottom), (left, bottom), (left, bottom)]
        )
        if "Fringed" in look.details:
            for x in np.arange(left + 1, left + 20, 3):
                canvas.line((x, bottom), (x, bottom + 9), paint=canvas.colour, width=1.4)
    canvas.shape(ellipse(20, 8, 80, 44), None, 0)
    canvas.shape(ellipse(32, 10, 68, 29), canvas.inside, 0)
    canvas.line((25, 34), (44, 38), (72, 32), width=1)
    canvas.line((24, 26), (44, 33), (76, 26), width=1)


def sock(canvas: Canvas, look: Look) -> None:
    top = 6 if "Knee High" in look.details else 28 if "Crew" in look.details else 52
    for shift in (16, 0):
        canvas.shape(
            [
                (46 + shift, top),
                (46 + shift, top),
                (68 + shift, top),
                (68 + shift, top),
                (70 + shift, 74),
                (60 + shift, 88),
                (30 + shift, 93),
                (16 + shift, 90),
                (16 + shift, 80),
                (40 + shift, 72),
                (47 + shift, 62),
            ]
        )
        canvas.shape(box(46 + shift, top, 68 + shift, top + 5), canvas.seam, 0)
        canvas.shape([(30 + shift, 93), (14 + shift, 92), (15 + shift, 79), (26 + shift, 77)], canvas.seam)


def earring(canvas: Canvas, look: Look) -> None:
    metal = STEEL if "Silver" in look.details else GOLD
    for x in (28, 72):
        canvas.dots((x, 22), paint=metal, radius=4)
        if "Hoop" in look.details:
            canvas.shape(ellipse(x - 18, 24, x + 18, 64), canvas.colour, 0)
            canvas.shape(ellipse(x - 13, 28, x + 13, 59), (250, 250, 250), 0)
        elif "Jhumka" in look.details:
            canvas.line((x, 22), (x, 40), paint=metal, width=2)
            canvas.shape(
                [(x, 36), (x - 10, 42), (x - 16, 64), (x - 16, 64), (x + 16, 64), (x + 16, 64), (x + 10, 42)],
                canvas.colour,
            )
            canvas.dots(*((x + i, 68) for i in (-12, -4, 4, 12)), paint=metal, radius=3)
        else:
            canvas.line((x, 22), (x, 44), paint=metal, width=2)
            canvas.shape([(x, 38), (x + 13, 66), (x, 82), (x - 13, 66)], canvas.colour)


ACCESSORIES: dict[str, Silhouette] = {
    "Handbags": Silhouette(handbag, (50, 60)),
    "Clutches": Silhouette(clutch, (22, 68)),
    "Wallets": Silhouette(wallet, (76, 62)),
    "Backpacks": Silhouette(backpack, (50, 74)),
    "Watches": Silhouette(watch, (50, 86)),
    "Belts": Silhouette(belt, (84, 64)),
    "Caps": Silhouette(cap, (36, 46)),
    "Hats": Silhouette(hat, (50, 38)),
    "Beanies": Silhouette(beanie, (50, 68)),
    "Sunglasses": Silhouette(sunglasses, (28, 52)),
    "Ties": Silhouette(tie, (50, 50)),
    "Scarves": Silhouette(scarf, (42, 68)),
    "Socks": Silhouette(sock, (48, 80)),
    "Earrings": Silhouette(earring, (28, 22)),
}

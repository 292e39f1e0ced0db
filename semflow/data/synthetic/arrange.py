"""Random but well-behaved arrangements: a furnished room, and moving things that cross each other's view.

Each moving thing has a lane of its own depth and swings through the middle of the picture, so that it stays in
view for any number of frames, and nearer lanes pass in front of farther ones.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import replace

import numpy as np
import torch

from semflow.data.synthetic.motion import Displaced, Hover, Path, Roll, Slide, Still
from semflow.data.synthetic.raycast import draw_all, make_view, single_threaded
from semflow.data.synthetic.scene import Scene, SceneSpec, Thing, arc_cameras
from semflow.data.synthetic.shapes import Box, Flag, Quad, Sphere
from semflow.data.synthetic.textures import Blotches, Bricks, Checks, Color, Framed, Gores, Grain, Stripes

FLOOR = -1.25
WALL = -7.4
SIDE = 3.9
PREVIEW_WIDTH = 64  # pixels, for judging an arrangement
ENOUGH_SHARE = 0.01  # of the image, that each moving thing must fill at all times
ATTEMPTS = 12
NEAREST_LANE, LANE_STEP, FARTHEST_LANE = -4.3, 0.75, -6.3


def hue(rng: np.random.Generator, saturation: float, value: float) -> Color:
    """A random colour of given saturation and value in [0, 1]."""
    return colorsys.hsv_to_rgb(rng.random(), saturation, value)


def hues(rng: np.random.Generator, count: int, saturation: float, value: float) -> tuple[Color, ...]:
    """`count` colours spread over the colour circle from a random start."""
    start = rng.random()
    order = rng.permutation(count)
    return tuple(colorsys.hsv_to_rgb((start + i / count) % 1, saturation, value) for i in order)


def noise_seed(rng: np.random.Generator) -> int:
    """A seed for a texture."""
    return int(rng.integers(1 << 30))


def room(rng: np.random.Generator) -> list[Thing]:
    """Back wall, two side walls and floor."""
    tone = hue(rng, 0.3, 0.56)
    mortar = tuple(0.5 + 0.5 * c for c in tone)
    brick = Bricks(tone, mortar, size=(0.62, 0.27), tone=0.26, seed=noise_seed(rng))
    wall = Grain(brick, scale=0.5, strength=0.2, octaves=4, seed=noise_seed(rng))
    wood = hue(rng, 0.35, 0.7)
    tiles = Checks(wood, tuple(0.5 * c for c in wood), size=0.55, tone=0.16, seed=noise_seed(rng))
    floor = Grain(tiles, scale=0.4, strength=0.2, octaves=4, seed=noise_seed(rng))
    turned = math.pi / 2
    return [
        Thing("wall", Quad((2 * SIDE, 6.0)), Still((0.0, 0.0, WALL)), wall),
        Thing("wall", Quad((8.0, 6.0)), Still((-SIDE, 0.0, 0.0), yaw=turned), wall),
        Thing("wall", Quad((8.0, 6.0)), Still((SIDE, 0.0, 0.0), yaw=-turned), wall),
        Thing("floor", Quad((2 * SIDE, 8.0)), Still((0.0, FLOOR, -2.0), pitch=-turned), floor),
    ]


def pictures(rng: np.random.Generator) -> list[Thing]:
    """Three framed paintings on the back wall."""
    things = []
    for centre in (-2.15, 0.15, 2.3):
        half = (float(rng.uniform(0.5, 0.75)), float(rng.uniform(0.36, 0.52)))
        painting = Blotches(hues(rng, 5, 0.75, 0.85), 0.5, 4, 1.1, noise_seed(rng))
        framed = Framed(painting, hue(rng, 0.5, 0.3), half, rim=0.07)
        place = (centre + float(rng.uniform(-0.2, 0.2)), float(rng.uniform(0.55, 0.85)), WALL + 0.03)
        things.append(Thing("picture", Quad(half), Still(place), framed))
    return things


def furniture(rng: np.random.Generator) -> list[Thing]:
    """A shelf against one side of the back wall and a globe on it."""
    side = rng.choice((-1.0, 1.0))
    half = (0.62, 0.42, 0.34)
    centre = (float(side * rng.uniform(1.75, 2.1)), FLOOR + half[1], WALL + 0.75)
    boards = Grain(Stripes((0.55, 0.36, 0.2), (0.4, 0.24, 0.13), 0.5, axis=1), 0.5, 0.25, 4, noise_seed(rng))
    shelf = Framed(boards, (0.25, 0.15, 0.09), (1.0, 1.0), rim=0.1)
    land = ((0.08, 0.2, 0.5), (0.12, 0.36, 0.7), (0.2, 0.5, 0.25), (0.75, 0.66, 0.35), (0.95, 0.95, 0.95))
    globe = Blotches(land, 0.8, 4, 0.9, noise_seed(rng))
    radius = 0.4
    top = (centre[0], centre[1] + half[1] + radius, centre[2])
    return [
        Thing("shelf", Box(half), Still(centre, yaw=float(rng.uniform(-0.3, 0.3))), shelf),
        Thing("globe", Sphere(), Still(top, yaw=float(rng.uniform(0, 6)), size=radius), globe),
    ]


def swing(rng: np.random.Generator, spec: SceneSpec, centre: tuple, reach_x: float, way: float, **vertical) -> Path:
    """A path that crosses the picture once in 12 frames, starting on side -way; optional vertical bobbing."""
    period = float(rng.uniform(32, 38))
    return Path(
        centre=centre,
        reach=(way * reach_x, vertical.get("bob", 0.0), 0.0),
        period=(period, vertical.get("bob_period", 1.0), 1.0),
        phase=(float(rng.uniform(-0.12, 0.12)), vertical.get("bob_phase", 0.0), 0.0),
        middle=0.5 * (spec.frames - 1),
    )


def balloon(rng: np.random.Generator, spec: SceneSpec, depth: float, way: float) -> Thing:
    """A patchwork balloon that floats, leans, and is squashed and stretched."""
    path = swing(rng, spec, (0.0, float(rng.uniform(0.1, 0.25)), depth), 1.2, way,
                 bob=float(rng.uniform(0.22, 0.32)), bob_period=float(rng.uniform(13, 17)), bob_phase=float(rng.uniform(0, 6)))
    gores = Gores(hues(rng, 4, 0.8, 0.95), 8, (0.95, 0.93, 0.85), belt_height=0.16)
    skin = Grain(gores, scale=0.5, strength=0.22, octaves=3, seed=noise_seed(rng))
    motion = Hover(path, (0.52, 0.6, 0.52), stretch=0.16, period=float(rng.uniform(8, 11)), lean=0.3, spin=way * 0.06)
    return Thing("balloon", Sphere(), motion, skin)


def ball(rng: np.random.Generator, spec: SceneSpec, depth: float, way: float) -> Thing:
    """A marbled ball that rolls on the floor."""
    radius = float(rng.uniform(0.42, 0.47))
    path = swing(rng, spec, (0.0, FLOOR + radius, depth), 1.5, way)
    bands = Gores(hues(rng, 3, 0.7, 0.9), 6, hue(rng, 0.2, 0.95), belt_height=0.2)
    marbled = Grain(bands, scale=0.6, strength=0.25, octaves=3, seed=noise_seed(rng))
    return Thing("ball", Sphere(), Roll(path, radius, tilt=float(rng.uniform(0.9, 1.3))), marbled)


def crate(rng: np.random.Generator, spec: SceneSpec, depth: float, way: float) -> Thing:
    """A wooden crate that slides on the floor while it turns."""
    half = float(rng.uniform(0.36, 0.4))
    path = swing(rng, spec, (0.0, FLOOR + half, depth), 1.2, way)
    tone = hue(rng, 0.55, 0.85)
    planks = Stripes(tone, tuple(0.6 * c for c in tone), 0.5, axis=int(rng.integers(2)))
    panel = Grain(planks, scale=0.7, strength=0.4, octaves=3, seed=noise_seed(rng))
    wood = Framed(panel, hue(rng, 0.6, 0.4), (1.0, 1.0), rim=0.16)
    return Thing("crate", Box((half, half, half)), Slide(path, float(rng.uniform(0, 1.5)), way * 0.07), wood)


def flag(rng: np.random.Generator, spec: SceneSpec, depth: float, way: float) -> Thing:
    """A waving flag that is carried through the room."""
    path = swing(rng, spec, (0.0, float(rng.uniform(0.3, 0.5)), depth), 1.1, way,
                 bob=0.1, bob_period=float(rng.uniform(14, 18)), bob_phase=float(rng.uniform(0, 6)))
    half = (0.72, 0.46)
    cloth = Blotches(hues(rng, 4, 0.8, 0.9), 0.45, 3, 1.2, noise_seed(rng))
    framed = Framed(cloth, hue(rng, 0.3, 0.95), half, rim=0.09)
    sheet = Flag(half, amplitude=0.17, waves=1.2, period=float(rng.uniform(8, 11)))
    return Thing("flag", sheet, Slide(path, -0.25 * way, way * 0.02), framed)


MAKERS = {"balloon": balloon, "ball": ball, "crate": crate, "flag": flag}


def lanes(rng: np.random.Generator, count: int) -> list[float]:
    """`count` depths, shuffled, close enough together to fit in front of the furniture."""
    step = min(LANE_STEP, (NEAREST_LANE - FARTHEST_LANE) / max(count - 1, 1))
    return [NEAREST_LANE - step * int(i) for i in rng.permutation(count)]


def arrangement(rng: np.random.Generator, spec: SceneSpec) -> Scene:
    """One random arrangement, good or not."""
    things = room(rng) + pictures(rng) + furniture(rng)
    start = rng.choice((-1.0, 1.0))
    for number, (kind, depth) in enumerate(zip(spec.objects, lanes(rng, len(spec.objects)))):
        things.append(MAKERS[kind](rng, spec, depth, float(start * (-1) ** number)))
    return Scene(spec, tuple(things), arc_cameras(spec))


@single_threaded()
def least_share(scene: Scene, give_up: float = -1.0) -> float:
    """Smallest share of the image that any moving thing fills in any training frame (seen coarsely).

    A share that falls to `give_up` is returned at once.
    """
    width = PREVIEW_WIDTH
    height = max(8, round(width * scene.spec.height / scene.spec.width))
    movers = scene.moving().nonzero()[:, 0]
    least = 1.0
    for frame in range(scene.spec.frames):
        view = make_view(scene.cameras, frame, height, width, torch.float32)
        instance = draw_all(scene.things, view, float(frame), colored=False, moving=True).instance
        shares = (instance[..., None] == movers).float().mean(dim=(0, 1))
        least = min(least, float(shares.min()))
        if least <= give_up:
            break
    return least


def build_scene(spec: SceneSpec) -> Scene:
    """The scene of a specification; equal specifications give equal scenes.

    Arrangements are drawn until every moving thing stays in sight in every training frame; where none of them
    manages that, the best one is taken. What the specification leaves out or displaces is left out or displaced then.
    """
    rng = spec.generator("arrangement")
    best, best_share = None, -1.0
    for _ in range(ATTEMPTS):
        scene = arrangement(rng, spec)
        share = least_share(scene, give_up=best_share)
        if share > best_share:
            best, best_share = scene, share
        if share >= ENOUGH_SHARE:
            break
    return changed(best)


def changed(scene: Scene) -> Scene:
    """A scene without what its specification leaves out, and with displaced what it displaces."""
    shifts = dict(scene.spec.shift)
    things = [replace(thing, motion=Displaced(thing.motion, shifts[thing.kind])) if thing.kind in shifts else thing
              for thing in scene.things if thing.kind not in scene.spec.without]
    return replace(scene, things=tuple(things))

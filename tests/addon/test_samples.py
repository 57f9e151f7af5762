"""The shipped samples are sound, and the scripts that make them still do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import bpy
import numpy as np
import pytest

from blender_addon import samples
from blender_addon.garment import pixels
from blender_addon.samples import (
    artwork,
    drape,
    drawing,
    pattern,
    reference_motif,
    reference_photo,
    sewing,
    threads,
    tshirt,
)


@pytest.fixture
def shirt() -> bpy.types.Object:
    bpy.ops.wm.open_mainfile(filepath=str(samples.TSHIRT_BLEND))
    return bpy.data.objects[samples.TSHIRT_NAME]


def _flat(piece: pattern.Piece) -> float:
    """Signed area, cm²: positive if the outline runs counter-clockwise."""
    x, y = piece.outline.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _twice_area(triangles: np.ndarray) -> np.ndarray:
    """Twice the signed area of flat triangles (T, 3, 2)."""
    a, b = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return np.asarray(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])


def test_sewn_edges_have_matching_points_and_lengths() -> None:
    for seam in pattern.SEAMS:
        first, second = (
            pattern.PIECES[piece].edges[edge] for piece, edge in (seam.first, seam.second)
        )
        assert len(first) == len(second), seam
        a, b = (np.linalg.norm(np.diff(edge, axis=0), axis=1).sum() for edge in (first, second))
        # Only the rib is stretched when it is sewn on.
        slack = 0.2 if seam.first[0] == "rib" else 0.05
        assert abs(a - b) <= slack * max(a, b), seam


def test_pieces_lie_apart_in_the_uv_square_right_side_up() -> None:
    size = 1000
    taken = np.zeros((size, size), dtype=bool)
    for name, piece in pattern.PIECES.items():
        assert _flat(piece) > 0
        uv = (piece.outline + pattern.uv_offset(name)) / pattern.CM_PER_UV
        assert uv.min() > 0
        assert uv.max() < 1
        mask = drawing.coverage([uv * size], size, size)
        assert not (taken & mask).any(), name
        taken |= mask
    assert taken.mean() > 0.6


def test_sewing_gives_one_garment_with_four_openings() -> None:
    garment = sewing.sew(seconds=0.01)
    edges = Counter(
        tuple(sorted(pair))
        for face in garment.faces.tolist()
        for pair in zip(face, face[1:] + face[:1], strict=True)
    )
    assert set(edges.values()) == {1, 2}
    # A sphere with four holes (neck, hem and two sleeves).
    assert len(garment.points) - len(edges) + len(garment.faces) == 2 - 4
    assert (_twice_area(garment.uvs) > 0).all()


def test_cloth_hangs_on_the_body_and_keeps_its_length() -> None:
    side = 12
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=2).reshape(-1, 2)
    points = np.column_stack([grid + np.array([8.0, -5.5]), np.full(len(grid), 68.0)])
    index = np.arange(side * side).reshape(side, side)
    pairs = np.vstack(
        [
            np.stack([index[:, :-1].ravel(), index[:, 1:].ravel()], axis=1),
            np.stack([index[:-1].ravel(), index[1:].ravel()], axis=1),
        ]
    )
    cloth = drape.Cloth(points, pairs, np.ones(len(pairs)), np.ones(len(pairs)))
    result = drape.drape(cloth, (30.0, (30.0, 30.0)), seconds=0.5)
    assert np.array_equal(result, drape.drape(cloth, (30.0, (30.0, 30.0)), seconds=0.5))
    assert drape.Body((30.0, 30.0)).distance(result).min() > 0.0
    stretch = np.linalg.norm(result[pairs[:, 0]] - result[pairs[:, 1]], axis=1)
    assert np.percentile(stretch, 95) < 1.15
    assert result[:, 2].min() < points[0, 2] - 2.0  # it fell over the shoulder


def test_shipped_shirt_has_its_real_size_and_a_packed_print(shirt: bpy.types.Object) -> None:
    assert samples.TSHIRT_BLEND.stat().st_size < 4e6
    assert 0.66 < shirt.dimensions.z < 0.80
    assert not shirt.modifiers
    mesh = shirt.data
    uv = np.empty(len(mesh.loops) * 2, np.float32)
    mesh.uv_layers[0].uv.foreach_get("vector", uv)
    points = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", points)
    loops = np.empty(len(mesh.loops), np.int32)
    mesh.loops.foreach_get("vertex_index", loops)
    corner = points.reshape(-1, 3)[loops].reshape(-1, 3, 3)
    flat = uv.reshape(-1, 3, 2) * pattern.CM_PER_UV / 100
    real = np.linalg.norm(
        np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1
    )
    drawn = _twice_area(flat)
    # Draped cloth keeps the pattern's proportions.
    assert 0.9 < real.sum() / drawn.sum() < 1.2
    picture = mesh.materials[0].node_tree.nodes["Image Texture"].image
    assert picture.packed_file
    assert tuple(picture.size) == (2048, 2048)
    assert not any(image.filepath and not image.packed_file for image in bpy.data.images)


def test_shipped_texture_is_what_the_script_draws(shirt: bpy.types.Object) -> None:
    picture = shirt.data.materials[0].node_tree.nodes["Image Texture"].image
    stored = pixels.from_image(picture)[..., :3].astype(int)
    drawn = np.rint(tshirt.texture() * 255).astype(int)
    assert np.abs(stored - drawn).max() <= 1


def test_print_has_flat_colours_in_its_box() -> None:
    canvas = drawing.Canvas(200, 200, np.zeros(3), oversample=2)
    for colour, polygons in artwork.bird():
        assert all(p.min() >= 0 and p.max() <= 100 for p in polygons)
        canvas.fill(polygons, artwork.COLOURS[colour], 2.0)
    colours = np.unique(canvas.pixels[canvas.drawn].reshape(-1, 3), axis=0)
    assert len(colours) == len(artwork.COLOURS)
    assert 0.2 < canvas.mask().mean() < 0.7


def test_coverage_is_even_odd_and_exact() -> None:
    square = np.array([[1.0, 1], [7, 1], [7, 6], [1, 6]])
    hole = np.array([[3.0, 2], [5, 2], [5, 4], [3, 4]])
    mask = drawing.coverage([square, hole], 8, 10)
    assert mask.sum() == 6 * 5 - 2 * 2
    assert mask[1:6, 1:7].sum() == mask.sum()
    assert not mask[2:4, 3:5].any()


def test_stitches_span_their_shapes_and_lie_side_by_side() -> None:
    sewn = reference_motif.stitches(np.random.default_rng(1))
    lengths = np.array([np.linalg.norm(s.end - s.start) for s in sewn])
    assert len(sewn) > 300
    assert lengths.max() < 12.0
    tubes = threads.sew_thread(sewn[:20], np.random.default_rng(1))
    assert tubes.quads.max() == len(tubes.points) - 1
    assert int(tubes.tube.max()) == 19
    # Threads dive into the cloth at both ends and lie on it between.
    assert tubes.points[:, 2].min() < -0.2 < 0.2 < tubes.points[:, 2].max()


def test_reference_pair_is_aligned_and_of_one_colour() -> None:
    total = sum(p.stat().st_size for p in Path(samples.__file__).parent.iterdir() if p.is_file())
    assert total < 6e6
    photo, flat, mask = (
        pixels.read(path)[..., :3].astype(float) / 255
        for path in (samples.REFERENCE_PHOTO, samples.REFERENCE_DESIGN, samples.REFERENCE_MASK)
    )
    assert photo.shape == flat.shape == mask.shape == (1024, 1024, 3)
    sewn = mask[..., 0] > 0.5
    assert 0.2 < sewn.mean() < 0.6
    # Alignment: moved by a thread's width either way, the design fits the photo less well.
    error = {
        (dy, dx): float(np.abs(np.roll(flat, (dy, dx), (0, 1)) - photo)[16:-16, 16:-16].mean())
        for dy, dx in ((0, 0), (12, 0), (-12, 0), (0, 12), (0, -12))
    }
    assert min(error, key=lambda shift: error[shift]) == (0, 0)
    # Threads are there: much finer detail than in the design.
    assert np.abs(np.diff(photo, axis=1))[:, :-1][sewn[:, 2:]].mean() > 0.02


def test_reference_script_renders_the_whole_chain(tmp_path: Path) -> None:
    reference_photo.make(tmp_path, size=48, samples=1, threads=1)
    photo = pixels.read(tmp_path / samples.REFERENCE_PHOTO.name)[..., :3].astype(int)
    flat = pixels.read(tmp_path / samples.REFERENCE_DESIGN.name)[..., :3].astype(int)
    mask = pixels.read(tmp_path / samples.REFERENCE_MASK.name)[..., 0]
    assert photo.shape == flat.shape == (48, 48, 3)
    assert set(np.unique(mask)) == {0, 255}
    # The petals (above the middle) are red, the leaves (below, left) green, in both.
    for picture in (photo, flat):
        assert picture[6, 24, 0] > picture[6, 24, 1] + 40
        assert picture[38, 12, 1] > picture[38, 12, 0]


def test_other_thread_gives_further_references_of_the_same_embroidery(tmp_path: Path) -> None:
    shades = {}
    for name in ("cotton", "metallic"):
        reference_photo.make_material(tmp_path, name, size=96, samples=2, threads=1)
        photo = pixels.read(tmp_path / f"{name}.png")[..., :3].astype(float).mean(axis=2)
        sewn = pixels.read(tmp_path / f"{name}_mask.png")[..., 0] == 255
        shades[name] = photo[sewn].mean()
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "cotton.png", "cotton_mask.png", "metallic.png", "metallic_mask.png"
    ]  # fmt: skip
    # Metal is dark beside what scatters light.
    assert shades["metallic"] < 0.9 * shades["cotton"], shades

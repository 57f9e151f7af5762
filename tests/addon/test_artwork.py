"""Regions: artwork found by itself, faces, vertex groups, masks; patches made from artwork."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest
from garments import cloth, material, noise, print_on_cloth

from blender_addon.garment import artwork, bake, foreign, patches, pieces, pixels, region, uv
from blender_addon.garment.errors import GarmentError

pytestmark = pytest.mark.usefixtures("scene")


def masked(obj: bpy.types.Object, patch: object, folder: Path) -> np.ndarray:
    patch.exaggeration = 5.0
    return pixels.read(bake.bake_patch(obj, patch, folder).mask_path)[..., 0] > 0


def square(side: int, left: float, top: float, right: float, bottom: float) -> np.ndarray:
    mask = np.zeros((side, side), bool)
    mask[round(top * side) : round(bottom * side), round(left * side) : round(right * side)] = True
    return mask


def test_lab_of_known_colours() -> None:
    rgb = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], np.uint8)
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.2]]
    assert np.allclose(artwork.to_lab(rgb), expected, atol=0.05)


def test_artwork_is_found_despite_noise_and_shading(tmp_path: Path) -> None:
    picture = print_on_cloth(256).astype(float)
    shading = np.linspace(0.7, 1.0, 256)[None, :, None]
    grain = np.random.default_rng(3).normal(0, 3, (256, 256, 1))
    picture[..., :3] = picture[..., :3] * shading + grain
    obj = cloth([material("a", picture.clip(0, 255).astype(np.uint8))])
    mask = masked(obj, patches.add_patch(obj), tmp_path)
    truth = square(len(mask), 0.25, 0.25, 0.5, 0.5)
    # Thread overlaps the cloth by half its width, 2.5 pixels.
    assert (mask & truth).sum() / truth.sum() > 0.99
    assert (mask & ~truth).sum() / truth.sum() < 0.15


def test_each_piece_of_artwork_becomes_a_patch() -> None:
    picture = print_on_cloth(256)
    picture[180:220, 180:240, :3] = (20, 60, 160)
    picture[240, :, :3] = 120
    obj = cloth([material("a", picture)])
    assert patches.patches_from_artwork(obj) == [0, 1]
    first, second = obj.stitchwork.patches
    assert first.region == "AUTO"
    assert np.allclose(first.rect, (0.235, 0.485, 0.515, 0.765), atol=0.01)
    assert np.allclose(second.rect, (0.688, 0.126, 0.952, 0.312), atol=0.01)
    assert (first.name, second.name) == ("Artwork", "Artwork 2")


def test_artwork_on_two_islands_of_different_cloth() -> None:
    picture = np.full((128, 256, 4), 255, np.uint8)
    picture[:, :128, :3] = (30, 30, 30)
    picture[:, 128:, :3] = (240, 220, 180)
    picture[40:80, 40:90, :3] = (240, 220, 180)
    picture[40:80, 170:210, :3] = (30, 30, 30)
    obj = cloth([material("a", picture)] * 2, squares=[(0, 0, 0.49, 1), (0.51, 0, 1, 1)])
    assert len(patches.patches_from_artwork(obj)) == 2
    found = sorted(tuple(each.rect) for each in obj.stitchwork.patches)
    assert found[0][:3:2] == pytest.approx((40 / 256, 90 / 256), abs=0.02)
    assert found[1][:3:2] == pytest.approx((170 / 256, 210 / 256), abs=0.02)


def test_pixels_on_a_shared_diagonal_belong_to_the_island() -> None:
    obj = cloth([None])
    islands = region.island_map(uv.layout(obj, "UVMap"), (0, 0, 1, 1), 64, 64)
    assert (islands == 1).all()


def test_plain_cloth_and_all_over_print_are_said() -> None:
    plain = cloth([material("a", colour=(0.2, 0.4, 0.6, 1))], name="Plain")
    with pytest.raises(GarmentError, match=r"No artwork was found on 'Plain'.*Everything"):
        patches.patches_from_artwork(plain)
    busy = cloth([material("b", noise(16, 16))], name="Busy")
    with pytest.raises(GarmentError, match=r"'Busy' is printed all over.*Everything"):
        patches.patches_from_artwork(busy)
    assert not plain.stitchwork.patches
    assert not busy.stitchwork.patches


def test_all_over_print_is_artwork_as_a_whole(tmp_path: Path) -> None:
    obj = cloth([material("a", noise(16, 16))])
    assert masked(obj, patches.add_patch(obj), tmp_path).mean() > 0.98


def test_selected_faces(tmp_path: Path) -> None:
    obj = cloth([None], squares=[(0, 0, 0.5, 1), (0.5, 0, 1, 0.5)])
    for face in obj.data.polygons:
        face.select = False
    with pytest.raises(GarmentError, match="No face of 'Cloth' is selected"):
        patches.add_patch(obj, chosen="FACES")
    obj.data.polygons[1].select = True
    patch = patches.add_patch(obj, chosen="FACES")
    assert patch.faces == "1"
    obj.data.polygons[1].select = False
    mask = masked(obj, patch, tmp_path)
    truth = np.zeros_like(mask)
    truth[mask.shape[0] // 2 :, mask.shape[1] // 2 :] = True
    assert (mask ^ truth).sum() <= 3 * max(mask.shape)
    assert np.allclose(region.faces_rect(obj, patch), (0.49, -0.01, 1.01, 0.51))


def test_face_runs_read_back() -> None:
    faces = np.array([0, 1, 2, 5, 7, 8])
    text = region.store_faces(faces)
    assert text == "0-2,5,7-8"
    assert (region._stored_faces(text) == faces).all()


def test_vertex_group(tmp_path: Path) -> None:
    obj = cloth([None], squares=[(0, 0, 0.5, 1), (0.5, 0, 1, 1)])
    patch = patches.add_patch(obj, chosen="GROUP")
    with pytest.raises(GarmentError, match="no vertex group ''"):
        masked(obj, patch, tmp_path)
    group = obj.vertex_groups.new(name="sleeve")
    group.add([4, 5, 6, 7], 1.0, "REPLACE")
    patch.vertex_group = "sleeve"
    mask = masked(obj, patch, tmp_path)
    middle = mask.shape[1] // 2
    assert mask[:, middle + 1 :].all()
    assert not mask[:, : middle - 2].any()


def test_mask_image(tmp_path: Path) -> None:
    obj = cloth([None])
    patch = patches.add_patch(obj, chosen="MASK", rect=(0.0, 0.5, 1.0, 1.0))
    with pytest.raises(GarmentError, match="has no mask image"):
        masked(obj, patch, tmp_path)
    picture = np.zeros((8, 8, 4), np.uint8)
    picture[..., 3] = 255
    patch.mask_image = pixels.to_image("mask", picture)
    with pytest.raises(GarmentError, match="holds no pixel"):
        masked(obj, patch, tmp_path)
    picture[:2, :4, :3] = 255
    patch.mask_image = pixels.to_image("mask", picture)
    mask = masked(obj, patch, tmp_path)
    height, width = mask.shape
    truth = np.zeros_like(mask)
    truth[: round(height / 2), : round(width / 2)] = True
    assert (mask == truth).mean() > 0.99


def test_png_round_trip_and_fill(tmp_path: Path) -> None:
    picture = noise(13, 7)
    picture[..., 3] = np.arange(13)
    pixels.write_png(tmp_path / "a.png", picture)
    assert (pixels.read(tmp_path / "a.png") == picture).all()
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]
    known = np.zeros((7, 13), bool)
    known[2:4, 3:6] = True
    filled = pixels.fill(picture[..., :3], known)
    assert (filled[known] == picture[known][:, :3]).all()
    constant = np.full((7, 13, 3), 90, np.uint8)
    assert (pixels.fill(constant * known[..., None].astype(np.uint8), known) == 90).all()


def _clothing(motif: bool) -> tuple[np.ndarray, np.ndarray]:
    """Two colour-blocked islands with seams, folds of light and grain; a disc in one if asked."""
    side = 512
    y, x = np.mgrid[:side, :side]
    picture = np.full((side, side, 3), (60.0, 90.0, 160.0))
    picture[:150] = (150, 30, 30)
    picture[149:151], picture[:, 30:32], picture[200:202] = 230, 20, 20
    if motif:
        picture[(x - 130) ** 2 + (y - 310) ** 2 < 32**2] = (240, 220, 60)
    fold = 0.35 * np.exp(-((x - 125) ** 2 + (y - 240) ** 2) / 60**2)
    waves = 0.25 * np.sin(x / 30) ** 2 * (y > 300)
    picture *= (1 - fold - waves)[..., None]
    picture += np.random.default_rng(1).normal(0, 4, (side, side, 1))
    island = np.zeros((side, side), int)
    island[10:500, 10:250], island[10:500, 260:500] = 1, 2
    return picture.clip(0, 255).astype(np.uint8), island


def test_panels_seams_and_folds_are_cloth_and_a_motif_on_them_is_found() -> None:
    for motif in (False, True):
        picture, island = _clothing(motif)
        found = artwork.find(picture, island)
        boxes = pieces.boxes(found.mask, island, 20, 7, 29)
        assert not found.patterned
        assert len(boxes) == motif
    assert boxes[0].left == pytest.approx(98, abs=3)
    assert boxes[0].bottom == pytest.approx(343, abs=3)


def test_dots_all_over_are_a_print_not_motifs() -> None:
    picture, island = _clothing(motif=False)
    y, x = np.mgrid[: len(island), : len(island)]
    picture[(x % 30 - 15) ** 2 + (y % 30 - 15) ** 2 < 49] = 240
    assert artwork.find(picture, island).patterned == (1, 2)


def test_a_thick_curved_seam_is_no_artwork_and_line_art_is() -> None:
    y, x = np.mgrid[:256, :256]
    ring = np.abs(np.hypot(y - 190, x - 190) - 40) < 5
    seam = np.abs(np.hypot(y + 40, x + 40) - 190) < 4
    island = np.ones((256, 256), int)
    assert pieces.boxes(seam, island, gap=4, thinnest=3) == []
    (found,) = pieces.boxes(ring | seam, island, gap=4, thinnest=3)
    assert (found.left, found.right) == (146, 235)


def _camouflage(side: int, scale: float, colours: list[tuple[int, int, int]]) -> np.ndarray:
    """(side, side, 3) blobs of several colours all over."""
    frequency = np.fft.fftfreq(side)
    low_pass = np.exp(-9 * scale**2 * (frequency[:, None] ** 2 + frequency**2))
    picture = np.empty((side, side, 3), np.uint8)
    picture[:] = colours[0]
    for seed, colour in enumerate(colours[1:]):
        noisy = np.random.default_rng(seed).normal(size=(side, side))
        height = np.fft.ifft2(np.fft.fft2(noisy) * low_pass).real
        picture[height > np.quantile(height, 0.7)] = colour
    return picture


def _all_over(print_: str, side: int) -> np.ndarray:
    rows, columns = np.indices((side, side))
    if print_ == "woodland":
        return _camouflage(side, 6, [(60, 70, 35), (35, 30, 25), (110, 120, 70), (120, 90, 60)])
    if print_ == "navy":
        return _camouflage(side, 12, [(40, 60, 110), (90, 120, 180), (20, 25, 50), (180, 190, 210)])
    if print_ == "checks":
        chosen, palette = (
            (rows // 24 + columns // 24) % 3,
            [(200, 190, 160), (60, 90, 60), (9, 9, 9)],
        )
    else:
        chosen, palette = columns // 14 % 3, [(30, 40, 90), (230, 230, 225), (150, 60, 50)]
    return np.array(palette, np.uint8)[chosen]


@pytest.mark.parametrize("print_", ["woodland", "navy", "checks", "stripes"])
@pytest.mark.parametrize(("row", "column", "radius"), [(150, 200, 45), (250, 120, 22)])
def test_a_crest_on_an_all_over_print_is_found_and_the_print_alone_is_not(
    print_: str, row: int, column: int, radius: int
) -> None:
    side = 384
    picture = _all_over(print_, side)
    island = np.ones((side, side), np.int64)
    bare = foreign.foreign_motifs(artwork.to_lab(picture), island > 0)
    assert not bare.any()
    rows, columns = np.indices((side, side))
    away = np.hypot(rows - row, columns - column)
    # In its middle the crest has a colour of the print.
    for share, colour in ((1.0, (230, 200, 40)), (0.7, (200, 20, 90)), (0.3, picture[0, 0])):
        picture[away < share * radius] = colour
    found = foreign.foreign_motifs(artwork.to_lab(picture), island > 0)
    truth = away < radius
    assert (found & truth).sum() > 0.95 * (found | truth).sum()


def test_colours_that_do_not_repeat_tell_nothing() -> None:
    picture = noise(12, 12)[..., :3].repeat(16, 0).repeat(16, 1)
    assert not foreign.foreign_motifs(artwork.to_lab(picture), np.ones((192, 192), bool)).any()


def test_a_crest_on_camouflage_becomes_a_patch_with_a_round_outline(tmp_path: Path) -> None:
    side = 512
    picture = np.full((side, side, 4), 255, np.uint8)
    picture[..., :3] = _all_over("navy", side)
    rows, columns = np.indices((side, side))
    crest = np.hypot(rows - 200, columns - 260) < 50
    picture[crest, :3] = (230, 200, 40)
    obj = cloth([material("a", picture)], size=0.3)
    (index,) = patches.patches_from_artwork(obj)
    patch = obj.stitchwork.patches[index]
    left, bottom, right, top = patch.rect
    middle = np.array([left + right, bottom + top]) / 2
    assert np.abs(middle - [260 / side, 1 - 200 / side]).max() < 0.01
    mask = masked(obj, patch, tmp_path)
    height, width = mask.shape
    across = (np.arange(width) + 0.5) / width * (right - left) * side
    down = (np.arange(height) + 0.5) / height * (top - bottom) * side
    far = np.hypot(across - (260 - left * side), (down - (200 - (1 - top) * side))[:, None])
    assert mask[far < 47].all()
    assert not mask[far > 55].any()

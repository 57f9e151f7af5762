"""LPIPS and CLIP-Score, where their weights are installed already; nothing is ever downloaded."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["CLIP", "clip_score", "lpips_distance"]

CLIP = "openai/clip-vit-base-patch16"
_ALEXNET = "alexnet-owt-7be5be79.pth"
# What CLIP's pictures are normalised by (Radford et al., 2021).
_MEAN = np.array((0.48145466, 0.4578275, 0.40821073), dtype=np.float32)
_SPREAD = np.array((0.26862954, 0.26130258, 0.27577711), dtype=np.float32)

Picture = NDArray[np.floating]


def lpips_distance() -> Callable[[Picture, Picture], float] | None:
    """LPIPS × 100 of two pictures (AlexNet; Zhang et al., 2018); None if it is not installed."""
    if any(importlib.util.find_spec(each) is None for each in ("lpips", "torchvision")):
        return None
    # The package would fetch these weights by itself.
    if not (Path(torch.hub.get_dir()) / "checkpoints" / _ALEXNET).is_file():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network: Any = importlib.import_module("lpips").LPIPS(net="alex", verbose=False).eval()

    def distance(first: Picture, second: Picture) -> float:
        pair = [_tensor(each) * 2.0 - 1.0 for each in (first, second)]
        with torch.no_grad():
            return 100.0 * float(network(*pair))

    return distance


def clip_score(source: str = CLIP) -> Callable[[Picture, str], float] | None:
    """CLIP-Score of a picture and its words, cosine × 100 (Hessel et al., 2021).

    Args:
        source: folder, or hub id that is looked for in the cache alone.

    Returns:
        None if the weights are not installed.
    """
    from transformers import CLIPModel, CLIPTokenizerFast

    try:
        model: Any = CLIPModel.from_pretrained(source, local_files_only=True).eval()
        tokenizer: Any = CLIPTokenizerFast.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError):
        return None
    side = int(model.config.vision_config.image_size)

    def score(picture: Picture, words: str) -> float:
        small = cv2.resize(
            np.ascontiguousarray(picture, np.float32), (side, side), interpolation=cv2.INTER_AREA
        )
        pixels = _tensor((small - _MEAN) / _SPREAD)
        length = int(model.config.text_config.max_position_embeddings)
        tokens = tokenizer([words], truncation=True, max_length=length, return_tensors="pt")
        with torch.no_grad():
            found = model(pixel_values=pixels, input_ids=tokens.input_ids)
        return 100.0 * float(torch.cosine_similarity(found.image_embeds, found.text_embeds)[0])

    return score


def _tensor(picture: Picture) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture, np.float32)).permute(2, 0, 1)[None]

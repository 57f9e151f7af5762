"""Stitchwork's backend: learns an embroidery style from one photo and restyles images with it."""

import os

__version__ = "0.1.0"

# Torch's threads wait for each other by spinning. Where another program (Blender) wants a core as
# well, they then spin against it: up to five times slower. Short spins cost nothing on a quiet
# machine. OpenMP reads this once, when torch is first imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

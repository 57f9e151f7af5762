"""Stitchwork's backend: learns an embroidery style from one photo and restyles images with it."""

__version__ = "0.1.0"

"""The garment side: patch measures, regions, baking, and laying embroidery over a material."""

"""Ground floor: reading, measuring and segmenting images with numpy, Pillow and OpenCV only."""

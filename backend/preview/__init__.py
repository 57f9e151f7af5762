"""The instant preview: guided patch synthesis after "Image Analogies", without any training."""

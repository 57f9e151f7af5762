"""A folder of styles: what is in it, sharing a style as one file, which styles are alike."""

"""Many pictures in many styles: a manifest is read and checked, then done row by row."""

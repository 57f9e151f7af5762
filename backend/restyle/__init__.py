"""Embroiders images and words in a trained style (paper, section 3.4)."""

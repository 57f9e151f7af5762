"""Learning a style from one pair: two-stage contrastive LoRA with prompt routing."""

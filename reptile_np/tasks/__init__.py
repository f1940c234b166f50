"""Where tasks come from: few-shot samplers, sine waves, glyphs, Omniglot, Mini-ImageNet, own images."""

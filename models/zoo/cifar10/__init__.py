"""Reference models trained on CIFAR-10: the training script, weights as .safetensors and their cards."""

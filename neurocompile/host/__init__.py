"""What of a model the host computes behind the chip's last values."""

"""What strangers send, read strictly."""
